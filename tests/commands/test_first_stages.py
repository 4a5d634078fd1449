"""run: a first stage that several trials have is trained once, and its file removed in the end."""

import json

import pytest
from narrow import OVERRIDES, command

SHORT = ' '.join(
    f'--set {setting}=1'
    for method, second in (('ours', 'fine_tune'), ('tanaka', 'retrain'))
    for setting in (
        *(f'{method}.correct.{name}' for name in ('epochs', 'begin', 'window')),
        f'{method}.{second}.epochs',
    )
)


@pytest.mark.parametrize(('option', 'shared'), [('', [False, True]), ('--no-share', [False] * 2)])
def test_run_trains_a_first_stage_once_unless_told_not_to_and_keeps_it_for_the_rest_of_the_table(
    option, shared, tmp_path
):
    words = f'run claims --preset quick --only ours --rates 0.5 --trials 1 --jobs 1 {option} '
    words += f'{OVERRIDES} {SHORT}'

    done = command(f'{words} --out here --device cpu', tmp_path)

    assert done.returncode == 0, done.stderr
    results = [json.loads(p.read_text()) for p in tmp_path.glob('here/runs/*/result.json')]
    assert sorted('shared' in result for result in results) == shared
    assert (tmp_path / 'here' / 'shared').exists() == any(shared)


def test_a_whole_table_leaves_no_first_stage_unless_another_is_being_trained(tmp_path):
    words = f'run figure3 --preset quick --jobs 2 {OVERRIDES} {SHORT} --out here --device cpu'
    shared, begun = tmp_path / 'here' / 'shared', tmp_path / 'here' / 'runs' / 'begun'
    begun.mkdir(parents=True)
    assert command(words, tmp_path).returncode == 0
    assert list(shared.iterdir())
    begun.rmdir()
    assert command(f'{words} --only ours', tmp_path).returncode == 0
    assert list(shared.iterdir())
    assert command(words, tmp_path).returncode == 0
    assert not shared.exists()
