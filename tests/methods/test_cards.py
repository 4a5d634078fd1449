import json
from pathlib import Path

import chainer
import numpy as np
import pytest

from chainer_jo import methods, paper
from chainer_jo.errors import ConfigError
from chainer_jo.methods.base import Method

each_method = pytest.mark.parametrize('name', paper.methods())
HEADINGS = ('Paper', 'Idea', 'Symbols', 'Differs')


def stages(name):
    return [
        stage
        for stage, settings in paper.hyperparameters('paper')[name].items()
        if isinstance(settings, dict)
    ]


@each_method
def test_a_card_has_its_headings_in_order_and_every_stage(name):
    lines = methods.card(name).splitlines()
    headings = [line.split()[0] for line in lines if line and not line[0].isspace()]
    assert [heading for heading in headings if heading in HEADINGS] == list(HEADINGS)
    for stage in stages(name):
        assert any(line.startswith(f'{stage}: ') for line in lines)


@each_method
def test_a_method_has_a_loss_for_every_stage_of_its_settings(name):
    kind = methods.load(name)
    assert issubclass(kind, Method)
    assert stages(name)
    for stage in stages(name):
        assert callable(getattr(kind, stage)), stage


@pytest.mark.parametrize(
    ('name', 'content', 'seen'),
    [
        ('absent', None, 'no chainer_jo/methods/absent.py'),
        ('empty', '', 'no class in'),
        ('odd', 'class Odd:\n    pass\n', 'Odd in chainer_jo/methods/odd.py'),
    ],
)
def test_a_new_method_says_what_its_file_lacks(name, content, seen, tmp_path, monkeypatch):
    monkeypatch.setattr(methods, '__file__', str(tmp_path / '__init__.py'))
    monkeypatch.setattr(methods, '__path__', [str(tmp_path)])
    if content is not None:
        (tmp_path / f'{name}.py').write_text(content)
    with pytest.raises(ConfigError, match=f'the method {name} is not complete') as error:
        methods.load(name)
    assert seen in error.value.seen


@pytest.mark.parametrize(
    ('content', 'seen'), [(None, 'no chainer_jo/methods/gce.py'), ('x = 1\n', 'no docstring in')]
)
def test_a_card_that_is_not_written_yet_is_asked_for(content, seen, tmp_path, monkeypatch):
    monkeypatch.setattr(methods, '__file__', str(tmp_path / '__init__.py'))
    if content is not None:
        (tmp_path / 'gce.py').write_text(content)
    with pytest.raises(ConfigError, match='the method gce is not complete') as error:
        methods.card('gce')
    assert seen in error.value.seen


@pytest.mark.parametrize('stage', ['fit', 'forward', 'predict', 'cleargrads'])
def test_a_stage_without_a_loss_is_named(stage):
    with pytest.raises(ConfigError, match=f'CrossEntropy has no loss for the stage {stage}'):
        methods.load('cross_entropy')(chainer.Chain(), np.array([0, 1]), 2, {stage: {}})


def test_the_card_of_our_method_shows_the_papers_settings():
    card = methods.card('ours')
    assert '1908.05488' in card
    assert 'epochs=200, begin=70, window=10' in card
    assert 'epochs=120, learning_rate=0.2, divide_after=[40, 80]' in card


def test_the_card_of_an_unknown_method_names_the_nearest():
    with pytest.raises(ConfigError, match="unknown method 'tanka'") as error:
        methods.card('tanka')
    assert 'did you mean tanaka?' in error.value.fix


RESULTS = Path(__file__).parents[2] / 'results' / 'reference' / 'quick_all_systems' / 'runs'


def test_a_method_that_ends_below_cross_entropy_says_so_on_its_card():
    results = [json.loads(path.read_text()) for path in RESULTS.glob('*/result.json')]
    plain = {r['config']['method']: r for r in results if not r['config']['modified']}
    assert set(plain) <= set(paper.methods())
    baseline = plain['cross_entropy']['last']['test_accuracy']
    for result in results:
        name, last = result['config']['method'], result['last']['test_accuracy']
        measured = methods.card(name).partition('Measured')[2]
        # A card with a measurement gives those of the method's other settings too.
        if plain[name]['last']['test_accuracy'] < baseline:
            assert f'{100 * last:.2f}' in measured
            assert f'{100 * baseline:.2f}' in measured
