"""One validated, frozen description of a trial; everything that changes the result is in it."""

import math
import tomllib
from dataclasses import asdict, dataclass, fields

from chainer_jo import paper, store
from chainer_jo.errors import ConfigError

NOISE_KINDS = ('symmetric', 'asymmetric', 'none', 'file')


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
        modified (tuple): The ``key=value`` overrides that were applied.
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
            words.append(f'--rate {self.noise["rate"]:g}')
        if self.noise['kind'] == 'file':
            words.append('--labels FILE')
        words += [f'--method {self.method}', f'--seed {self.seed}']
        if self.precision != 'float32':
            words.append(f'--precision {self.precision}')
        return ' '.join(words + [f"--set '{override}'" for override in self.modified])


def from_dict(values):
    """Returns the TrialConfig that :meth:`TrialConfig.as_dict` wrote; other keys do not count."""
    known = {field.name: values[field.name] for field in fields(TrialConfig)}
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
        precision (str): ``float32``, or ``bfloat16`` where the backend has it.
        labels (str): SHA-256 of the labels for noise ``file``.

    Raises:
        ConfigError: A name or key does not exist, or a value has the wrong type or range.
    """
    if noise not in NOISE_KINDS:
        raise paper.unknown('noise', noise, NOISE_KINDS)
    if method not in paper.methods():
        raise paper.unknown('method', method, paper.methods())
    settings = paper.hyperparameters(preset)
    applied = [
        _override(settings, override)
        for override in overrides
        if _concerns(override, method, settings)
    ]
    rate = _checked_rate(noise, rate)
    row = _table_row(settings['table1'], noise, rate)
    stages = {
        name: {key: row[key] if value == 'table1' else value for key, value in stage.items()}
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
        modified=tuple(applied),
    )


def _checked_rate(noise, rate):
    if noise in ('none', 'file'):
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
    """The row of Table 1 for a noise; one that is not printed takes the nearest rate (D-31)."""
    kind = 'asymmetric' if noise == 'asymmetric' else 'symmetric'
    rows = [row for row in rows if row['noise'] == kind] or rows
    return min(rows, key=lambda row: abs(row['rate'] - (0.5 if rate is None else rate)))


def _concerns(override, method, settings):
    """False for a known section of another method, so that one --set serves a whole table."""
    section = override.partition('.')[0]
    return section == method or section not in paper.methods()


def _override(settings, override):
    key, equals, text = override.partition('=')
    path = key.strip().split('.')
    known = _keys(settings)
    if not equals or '.'.join(path) not in known:
        raise paper.unknown('setting', key.strip(), known)
    section = settings
    for name in path[:-1]:
        # Copied on the way down: the dicts are shared with the cache of the TOML files.
        section[name] = dict(section[name])
        section = section[name]
    value = _parse(text.strip())
    section[path[-1]] = _checked(key.strip(), value, section[path[-1]], settings['choices'])
    return f'{key.strip()}={text.strip()}'


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
        return tomllib.loads(f'value = {text}')['value']
    except tomllib.TOMLDecodeError:
        return text


def _checked(key, value, present, choices):
    name = key.rpartition('.')[2]
    if name in choices:
        if value not in choices[name]:
            raise paper.unknown(f'value for {key}', str(value), choices[name])
        return value
    numeric = isinstance(present, float) or present == 'table1'
    if numeric and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    wanted = float if numeric else type(present)
    if type(value) is not wanted:
        raise ConfigError(
            f'{key} takes a {wanted.__name__}', seen=repr(value), fix=f'for example {key}={present}'
        )
    _check_range(key, value)
    return value


def _check_range(key, value):
    numbers = value if isinstance(value, list) else [value]
    for number in numbers:
        wrong_kind = isinstance(value, list) and type(number) is not int
        number_like = isinstance(number, (int, float)) and not isinstance(number, bool)
        if wrong_kind or (number_like and (not math.isfinite(number) or number < 0)):
            raise ConfigError(
                f'{key} is out of range', seen=repr(value), fix='numbers are finite and at least 0'
            )
    if key.endswith(('epochs', 'batch_size', 'window', 'begin', '_images')) and value < 1:
        raise ConfigError(f'{key} is out of range', seen=repr(value), fix='write at least 1')
