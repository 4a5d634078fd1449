"""``doctor`` examines the installation; ``methods`` lists the methods."""

from chainer_jo import paper
from chainer_jo.commands import options
from chainer_jo.console import show, show_json


def add(command):
    """Adds the commands; ``command(name, function, text)`` returns a new parser."""
    doctor = command('doctor', _doctor, 'versions, backend, device and data; what to fix')
    options.add_machine(doctor)
    options.add_json(doctor)
    methods = command('methods', _methods, 'the methods, or the description of one')
    methods.add_argument('name', nargs='?', metavar='NAME', help='describe this method')
    options.add_json(methods)


def _doctor(given):
    from chainer_jo import doctor
    from chainer_jo.training import device

    findings = doctor.examine(given.device, given.backend, given.data, given.weights)
    # Printed first: what is missing is part of the answer.
    show_json(findings) if given.json else show(doctor.as_text(findings))
    # Raises only now, after everything that explains the error has been printed.
    device.choose(given.device, given.backend)
    return 0


def _methods(given):
    from chainer_jo import methods

    titles = paper.methods()
    if given.name:
        card = methods.card(given.name)
        title = titles[given.name]
        described = {'name': given.name, 'title': title, 'card': card}
        show_json(described) if given.json else show(card)
    elif given.json:
        show_json([{'name': name, 'title': title} for name, title in titles.items()])
    else:
        show('\n'.join(f'{name:20} {title}' for name, title in titles.items()))
    return 0
