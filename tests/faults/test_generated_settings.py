"""F-24: whatever is written as a setting is a configuration, or a ConfigError in three lines."""

import json
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainer_jo import cli, config, paper
from chainer_jo.errors import ConfigError

METHODS = list(paper.methods())


def items(values, prefix=''):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from items(value, f'{prefix}{key}.')
        else:
            yield prefix + key, json.dumps(value)


PRESENT = sorted(items(paper.hyperparameters('quick', 'fashion_mnist')))
KEYS = [key for key, _ in PRESENT]
TOML = st.recursive(
    st.integers().map(str)
    | st.floats().map(repr)
    | st.sampled_from(['true', 'false', 'nan', '-inf', '1e400', '0x10', '1979-05-27', '1_0', '-0'])
    | st.text(max_size=20).map(lambda text: f'"{text}"')
    | st.text(max_size=20).map(lambda text: f"'{text}'"),
    lambda inner: (
        st.lists(inner, max_size=5).map(lambda items: f'[{", ".join(items)}]')
        | inner.map(lambda value: f'{{a = {value}}}')
    ),
    max_leaves=8,
)
SETTINGS = (
    st.builds('{0[0]}={0[1]}{1}'.format, st.sampled_from(PRESENT), st.sampled_from(['', " # it's"]))
    | st.builds('{}={}'.format, st.sampled_from(KEYS), TOML)
    | st.builds('{}={}'.format, st.sampled_from(KEYS), st.text(max_size=30))
    | st.builds('{}={}'.format, st.text(max_size=30), TOML)
    | st.text(max_size=60)
)


@pytest.mark.parametrize('count', [200, pytest.param(10_000, marks=pytest.mark.long)])
def test_any_text_is_a_setting_or_refused(count, figure):
    seen = {'valid': 0, 'refused': 0}

    @settings(max_examples=count)
    @given(st.sampled_from(METHODS), st.lists(SETTINGS, max_size=3))
    def check(method, overrides):
        noise = 'fashion_mnist', 'symmetric', 0.5, 0, 'quick'
        try:
            made = config.trial(method, *noise, overrides)
        except ConfigError as error:
            lines = str(error).splitlines()
            assert len(lines) == 3
            assert all(line.isprintable() for line in lines)
            assert max(map(len, lines[:2])) < 500
            seen['refused'] += 1
            return
        seen['valid'] += 1
        # The command that is told to people makes the same trial.
        given = cli.parser().parse_args(shlex.split(made.command)[3:])
        assert config.trial(method, *noise, given.overrides) == made

    check()
    assert min(seen.values()) > 0
    figure('F-24', f'{sum(seen.values()):,} generated configurations: {seen["valid"]:,} valid, '
           f'{seen["refused"]:,} refused, no other error')  # fmt: skip
