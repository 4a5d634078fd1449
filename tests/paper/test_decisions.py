import re
from pathlib import Path

import pytest

from chainer_jo import cli, config, paper

PACKAGE = Path(paper.FOLDER).parent
LEDGER = (paper.FOLDER / 'decisions.md').read_text()
ENTRIES = {
    int(number): text
    for number, text in re.findall(r'^### D-(\d\d) (.*?)(?=^##|\Z)', LEDGER, re.M | re.S)
}
SWITCHES = re.findall(
    r'`(\w+\.\w[\w.]*(?:=[^`]+)?)`',
    '\n'.join(re.findall(r'^- Switch: (.*)$', LEDGER, re.M)).replace('`grids.toml`', ''),
)


def mentions():
    for path in PACKAGE.rglob('*'):
        if path.suffix in ('.py', '.toml', '.md', '.csv') and path.name != 'decisions.md':
            for number in re.findall(r'\bD-(\d+)', path.read_text()):
                yield path.relative_to(PACKAGE).as_posix(), int(number)


def test_decisions_are_numbered_from_1_without_a_gap():
    assert list(ENTRIES) == list(range(1, len(ENTRIES) + 1))


def test_every_decision_that_is_named_in_the_package_is_in_the_ledger():
    named = set(mentions())
    assert ('methods/ours.py', 16) in named
    assert [(path, number) for path, number in named if number not in ENTRIES] == []


@pytest.mark.parametrize('number', ENTRIES)
def test_a_decision_says_the_text_our_choice_what_codes_do_and_the_switch(number):
    labels = re.findall(r'^- (\w+): \S', ENTRIES[number], re.M)
    assert [label for label in labels if label != 'Effect'] == ['Text', 'Here', 'Codes', 'Switch']


def test_references_inside_the_ledger_exist():
    assert {int(number) for number in re.findall(r'D-(\d+)', LEDGER)} == set(ENTRIES)


@pytest.mark.parametrize('switch', SWITCHES)
def test_a_switch_is_a_setting_that_can_be_changed(switch):
    key, _, value = switch.partition('=')
    section, *path = key.split('.')
    method = section if section in paper.methods() else 'ours'
    # On Clothing1M what only that data set has.
    own = paper.hyperparameters('paper', 'clothing1m')
    only_there = key not in config._keys(paper.hyperparameters('paper'))
    present = (own if only_there else paper.hyperparameters('paper'))[section]
    for name in path:
        present = present[name]
    # Where the ledger names no value, one other than the paper's that is of its kind.
    value = value or {'table1': 1.5, 'pencil_settings': 1.5}.get(str(present), present)
    place = ('clothing1m', 'none', None) if only_there else ('cifar10', 'symmetric', 0.5)
    overridden = config.trial(method, *place, 0, overrides=[f'{key}={value}'])
    assert overridden.modified


def test_an_option_that_serves_as_switch_exists(capsys):
    helps = ''
    for command in ('run', 'train', 'data', 'correct'):
        with pytest.raises(SystemExit):
            cli.main([command, '--help'])
        helps += capsys.readouterr().out
    switches = '\n'.join(re.findall(r'^- Switch: (.*)$', LEDGER, re.M))
    options = re.findall(r'`(--[\w-]+)', switches)
    assert '--seed' in options
    assert [option for option in options if f'{option} ' not in helps] == []
