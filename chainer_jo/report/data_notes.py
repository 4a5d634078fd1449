"""Titles and notes on the data of a trial, for people."""

from chainer_jo import datasets
from chainer_jo.report.escape import code, escaped

# By digest: short name and description of known variants of published data.
VARIANTS = {
    '8b829980f4186e0d7f097ceac3c3296d46ce609e2fa0288151e657da00f5b0d4': (
        'JPEG variant',
        'the official images, order and labels, but not the official pixels: each image was saved '
        'as JPEG at quality 75 with colour at half resolution, and decoded by Pillow; '
        '`reproduce/cifar10_jpeg.py` makes such a set from the official archive',
    ),
}


# Published files of ImageNet weights, by the beginning of their digest.
WEIGHTS = {
    '0676ba61': "torchvision's resnet50-0676ba61.pth",
    '19c8e357': "torchvision's resnet50-19c8e357.pth",
    '5d061a3c': "timm's resnet50.tv_in1k",
}


def dataset_title(name):
    """Returns the name of a data set in its usual spelling."""
    return datasets.TITLES.get(name, name)


def data_title(data):
    """Returns the name and the variant of a trial's data, such as ``CIFAR-10 (official)``.

    Args:
        data (dict): ``data`` of ``result.json``.
    """
    kind, _ = VARIANTS.get(data['digest'], ('', ''))
    variant = data['variant'].replace('variant', kind) if kind else data['variant']
    return f'{dataset_title(data["name"])} ({variant})'


def data_note(result):
    """Returns one sentence, in Markdown, about the data and validation labels of a trial."""
    data, common = result['data'], result['config']['common']
    _, meaning = VARIANTS.get(data['digest'], ('', ''))
    test = f'{data["test"]:,} test images' if data['test'] else 'no test images'
    return (
        f'Data: {escaped(data_title(data))}'
        + (f': {meaning}' if meaning else '')
        + f'; digest {code(data["digest"][:16])}; {data["train"]:,} training, '
        f'{data["validation"]:,} validation and {test}; '
        f'validation labels: {escaped(common.get("validation_labels", "clean"))}.'
    )


def weights_note(result):
    """Returns one sentence, in Markdown, about a trial's file of initial weights, or ``None``."""
    digest = result.get('weights')
    if digest is None:
        return None
    name = WEIGHTS.get(digest[:8], 'a file that the package does not know')
    return f'Initial weights: {name}; SHA-256 {code(digest[:16])}.'
