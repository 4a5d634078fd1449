"""One validated, frozen description of a trial; everything that changes the result is in it."""

import json
import math
import tomllib
from dataclasses import asdict, dataclass, fields

from chainer_jo import datasets, paper, store
from chainer_jo.errors import ConfigError

NOISE_KINDS = ('symmetric', 'asymmetric', 'none', 'file')
PRECISIONS = ('float32', 'strict_float32', 'bfloat16', 'float16')


@dataclass(frozen=True)
class TrialConfig:
    """What one trial trains, on what, and how.

    Attributes:
        preset (str): Where the settings come from, ``paper`` or ``quick``.
        dataset (str): ``cifar10`` or ``fashion_mnist``.
        noise (dict): ``kind``, ``rate`` (fraction), ``sampling``, ``exclude_true`` and, for kind
            ``file``, ``labels``, the SHA-256 of the label array.
        method (str): Name of a method.
        seed (int): Drives split, noise, initial weights, order, crops and mix-up.
        common (dict): Batch size, optimizer and split; section ``[common]``.
        net (dict): Section ``[net]``.
        stages (dict): Stage name to its hyper-parameters, in the order in which they run.
        modified (tuple): The overrides in force, ``key=value``: one a key, sorted, and each value
            in one spelling, so that equal settings have equal ids.
    """

    preset: str
    dataset: str
    noise: dict
    method: str
    seed: int
    common: dict
    net: dict
    stages: dict
    precision: str = 'float32'
    modified: tuple = ()

    @property
    def epochs(self):
        """Number of epochs of all stages together."""
        return sum(stage['epochs'] for stage in self.stages.values())

    @property
    def digest(self):
        """SHA-256 of everything that changes the result."""
        return store.digest(self.as_dict())

    @property
    def trial(self):
        """The trial id: words for people and eight hex digits of the digest."""
        noise = self.noise['kind']
        if self.noise['rate'] is not None:
            noise += f'-{self.noise["rate"]:g}'
        return f'{self.method}-{noise}-s{self.seed}-{self.digest[:8]}'

    def as_dict(self):
        """Returns the configuration as plain JSON values; :func:`from_dict` reads it back."""
        return asdict(self) | {'modified': list(self.modified)}

    @property
    def command(self):
        """The command line that runs this trial, without ``--data`` and ``--out``."""
        words = ['python -m chainer_jo train', f'--preset {self.preset}']
        words += [f'--dataset {self.dataset}', f'--noise {self.noise["kind"]}']
        if self.noise['rate'] is not None:
            words.append(f'--rate {self.noise["rate"]!r}')
        if self.noise['kind'] == 'file':
            words.append('--labels FILE')
        words += [f'--method {self.method}', f'--seed {self.seed}']
        if self.precision != 'float32':
            words.append(f'--precision {self.precision}')
        return ' '.join(words + [f"--set '{override}'" for override in self.modified])


def from_dict(values):
    """Returns the TrialConfig that :meth:`TrialConfig.as_dict` wrote; other keys do not count."""
    known = {f.name: values[f.name] for f in fields(TrialConfig) if f.name in values}
    return TrialConfig(**known | {'modified': tuple(values['modified'])})


def trial(
    method, dataset, noise, rate, seed, preset='paper', overrides=(), precision='float32',
    labels=None,
):  # fmt: skip
    """Resolves one trial: the paper's values, then the preset's, then ``key=value`` overrides.

    Args:
        method (str): Name of a method.
        dataset (str): Name of a data set.
        noise (str): ``symmetric``, ``asymmetric``, ``none`` or ``file``.
        rate (float): Noise rate, a fraction in ``[0, 1]``; ``None`` for ``none`` and ``file``.
        seed (int): At least 0.
        preset (str): Name of a file in ``paper/presets``.
        overrides (sequence of str): ``section.key=value`` with a TOML value.
        precision (str): One of ``PRECISIONS``, where the backend has it.
        labels (str): SHA-256 of the labels for noise ``file``.

    Raises:
        ConfigError: A name or key does not exist, or a value has the wrong type or range.
    """
    if noise not in NOISE_KINDS:
        raise paper.unknown('noise', noise, NOISE_KINDS)
    if method not in paper.methods():
        raise paper.unknown('method', method, paper.methods())
    if dataset not in datasets.NAMES:
        raise paper.unknown('data set', dataset, datasets.NAMES)
    if seed < 0:
        raise ConfigError('the seed is negative', seen=str(seed), fix='write 0 or more')
    settings = paper.hyperparameters(preset)
    applied = dict(_override(settings, override) for override in overrides)
    _check_net(settings['net'])
    rate = _checked_rate(noise, rate)
    rows = {
        name: _table_row(table, noise, rate)
        for name, table in settings.items()
        if isinstance(table, list)
    }
    stages = {
        name: {
            key: rows[value][key] if str(value) in rows else value for key, value in stage.items()
        }
        for name, stage in settings[method].items()
        if isinstance(stage, dict)
    }
    return TrialConfig(
        preset=preset,
        dataset=dataset,
        noise={'kind': noise, 'rate': rate, 'labels': labels} | settings['noise'],
        method=method,
        seed=seed,
        common=settings['common'],
        net=settings['net'],
        stages=stages,
        precision=precision,
        modified=tuple(
            sorted(f'{key}={text}' for key, text in applied.items() if _concerns(key, method))
        ),
    )


def _checked_rate(noise, rate):
    if noise in ('none', 'file'):
        if rate is not None:
            raise ConfigError(
                f'noise {noise} has no rate', seen=f'rate {rate:g}', fix='leave out the rate'
            )
        return None
    if rate is None or not math.isfinite(rate) or not 0 <= rate <= 1:
        percent = rate is not None and 1 < rate <= 100
        raise ConfigError(
            'the noise rate is a fraction from 0 to 1',
            seen=str(rate),
            fix=f'write {rate / 100:g}' if percent else 'write for example 0.7 for 70 %',
        )
    return float(rate)


def _table_row(rows, noise, rate):
    """The row of a table for a noise; a rate that is not printed takes the nearest (D-31)."""
    kind = 'asymmetric' if noise == 'asymmetric' else 'symmetric'
    rows = [row for row in rows if row['noise'] == kind] or rows
    wanted = 0.5 if rate is None else rate
    # Rounded, so that of two as near it is always the first.
    return min(rows, key=lambda row: round(abs(row['rate'] - wanted), 6))


def _concerns(key, method):
    """False for the section of another method, so that one --set serves a whole table."""
    section = key.partition('.')[0]
    return section == method or section not in paper.methods()


def _override(settings, override):
    """Applies ``key=value`` to ``settings``; returns the key and the value in one spelling."""
    key, equals, text = override.partition('=')
    key = key.strip()
    known = _keys(settings)
    if key not in known:
        raise paper.unknown('setting', key, known)
    if not equals:
        raise ConfigError(f'{key} has no value', seen=repr(override), fix=f'write {key}=VALUE')
    *path, name = key.split('.')
    section = settings
    for step in path:
        # Copied on the way down: the dicts are shared with the cache of the TOML files.
        section[step] = dict(section[step])
        section = section[step]
    section[name] = value = _checked(key, text.strip(), section[name], settings['choices'])
    return key, value if isinstance(value, str) else json.dumps(value)


def _keys(settings, prefix=''):
    keys = []
    for name, value in settings.items():
        if isinstance(value, dict) and name != 'choices':
            keys += _keys(value, f'{prefix}{name}.')
        elif prefix and name != 'title':
            keys.append(prefix + name)
    return keys


def _parse(text):
    try:
        parsed = tomllib.loads(f'value = {text}')
    except (ValueError, RecursionError):
        return text
    return parsed['value'] if len(parsed) == 1 else text


_KINDS = {
    bool: 'true or false',
    int: 'a whole number',
    float: 'a number',
    list: 'a list of whole numbers',
}
_AT_LEAST_ONE = (
    'epochs', 'begin', 'window', 'batch_size', '_images', 'filters', 'blocks', '_stride',
    'prune_every', 'lid_batch', 'neighbours',
)  # fmt: skip
# Words that stand beside numbers.
_WORDS = {'window': ('all',)}
_LARGEST = {'drop': 0.999, 'epsilon': 0.999, 'momentum': 0.999, 'q': 1.0, 'k': 1.0}


def _checked(key, text, present, choices):
    name, value = key.rpartition('.')[2], _parse(text)
    if value in _WORDS.get(name, ()):
        return value
    if name in choices:
        if value not in choices[name]:
            raise paper.unknown(f'value for {key}', text, choices[name])
        return value
    # Text without choices names a table of numbers, such as Table 1.
    wanted = float if isinstance(present, str) else type(present)
    wanted = int if present in _WORDS.get(name, ()) else wanted
    numbers = value if type(value) is list else [value]
    allowed = {float: (float, int), list: (int,)}.get(wanted, (wanted,))
    is_list = type(value) is list
    if is_list != (wanted is list) or any(type(number) not in allowed for number in numbers):
        example = '1.0' if isinstance(present, str) else json.dumps(present)
        raise ConfigError(
            f'{key} takes {_KINDS[wanted]}', seen=repr(text), fix=f'for example {key}={example}'
        )
    # Neither Beta(0, 0) nor the L_0 of generalised cross entropy exists.
    least = 1e-9 if name in ('a', 'q') else 1 if name.endswith(_AT_LEAST_ONE) else 0
    largest = _LARGEST.get(name, 1e9)
    # NaN is in no range.
    if not all(least <= number <= largest for number in numbers):
        raise ConfigError(
            f'{key} is out of range', seen=repr(text), fix=f'write {least:g} to {largest:g}'
        )
    return wanted(value)


def _check_net(net):
    if len(net['filters']) != len(net['blocks']) + 1:
        raise ConfigError(
            'net.filters and net.blocks do not fit together',
            seen=f'filters {net["filters"]}, blocks {net["blocks"]}',
            fix='give one filter number for the stem, then one for each number of blocks',
        )
