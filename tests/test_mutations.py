"""The list of mutations fits the package; mutations.sh itself is no part of the suite."""

import mutations
import pytest

LISTED = mutations.read()
PACKAGE = mutations.ROOT / mutations.PACKAGE


@pytest.mark.parametrize('mutation', LISTED, ids=lambda mutation: mutation.name)
def test_a_mutation_can_be_made_and_names_tests_that_there_are(mutation):
    """Who rewrites a line that has one writes its mutation anew in mutations.toml."""
    text = (PACKAGE / mutation.file).read_text()
    assert mutation.apply(text) not in (None, text)
    for test in mutation.tests:
        file, _, name = test.partition('::')
        assert f'def {name}' in (mutations.ROOT / 'tests' / file).read_text()


def test_every_mutation_has_a_name_of_its_own():
    names = [mutation.name for mutation in LISTED]
    assert len(set(names)) == len(names) > 60


def test_mutations_are_chosen_by_name_or_file():
    assert mutations.chosen(LISTED, []) == LISTED
    assert [m.name for m in mutations.chosen(LISTED, ['entropy-sign'])] == ['entropy-sign']
    files = {m.file for m in mutations.chosen(LISTED, ['datasets/*'])}
    assert 'datasets/noise.py' in files
    assert all(file.startswith('datasets/') for file in files)


def test_a_text_that_is_missing_or_there_twice_is_not_changed():
    mutation = mutations.Mutation('m', 'f.py', 'a + b', 'a - b', ())
    assert mutation.apply('return a + b\n') == 'return a - b\n'
    assert mutation.apply('return a - b\n') is None
    assert mutation.apply('a + b, a + b') is None


class FakeCopy(mutations.Copy):
    """Tests that pass where the package says yes, fail where it says no, and else cannot be run.

    Where it says silent, Python ends like a failing test, as it does where there is no pytest.
    """

    def __init__(self, folder):
        self.folder = folder
        (folder / mutations.PACKAGE).mkdir()
        (folder / mutations.PACKAGE / 'f.py').write_text('maybe = yes')

    def test(self, tests):
        text = (self.folder / mutations.PACKAGE / 'f.py').read_text()
        code = {'yes': 0, 'no': 1, 'silent': 1}.get(text.split()[-1], 4)
        said = 'No module' if 'silent' in text else 'FAILED tests/test_f.py::test_it - no'
        return self.python('-c', f'import sys; print({said!r}); sys.exit({code})')


@pytest.mark.parametrize(
    ('new', 'word', 'reason'),
    [
        ('maybe = no', mutations.KILLED, 'test_it'),
        ('maybe =  yes', mutations.SURVIVED, ''),
        ('maybe = silent', mutations.NOT_APPLIED, 'pytest: No module'),
        ('maybe = broken', mutations.NOT_APPLIED, 'pytest: FAILED tests/test_f.py::test_it - no'),
    ],
)
def test_a_mutation_is_killed_by_a_failing_test_only_and_always_undone(new, word, reason, tmp_path):
    copy = FakeCopy(tmp_path)
    mutation = mutations.Mutation('m', 'f.py', 'maybe = yes', new, ('test_f.py',))
    assert copy.outcome(mutation) == (word, reason)
    assert (tmp_path / mutations.PACKAGE / 'f.py').read_text() == 'maybe = yes'


def test_a_text_that_is_gone_is_said_to_be(tmp_path):
    mutation = mutations.Mutation('m', 'f.py', 'maybe = perhaps', '', ())
    word, reason = FakeCopy(tmp_path).outcome(mutation)
    assert word == mutations.NOT_APPLIED
    assert reason == "'maybe = perhaps' is 0 times in f.py"


def test_an_unknown_name_is_an_error_of_use(capsys):
    assert mutations.main(['no-such-mutation']) == 2
    assert 'seen: no-such-mutation' in capsys.readouterr().err
