"""The validated, frozen configuration of a trial, with everything that changes its result."""

import json
import shlex
import tomllib
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from functools import cached_property

from chainer_jo import datasets, paper, store
from chainer_jo.datasets.noise import check_rate
from chainer_jo.errors import ConfigError, excerpt

RATED = ('symmetric', 'asymmetric')
NOISE_KINDS = (*RATED, 'none', 'file')
#: Limits within which reports accept a result.
MOST_SEED = 10**12
LONGEST_OVERRIDE = 200


@dataclass(frozen=True)
class TrialConfig:
    """The configuration of one trial.

    Attributes:
        preset (str): Preset of the settings: the name of a file in ``paper/presets``.
        dataset (str): One of ``datasets.NAMES``, or the name of the user's own images.
        noise (dict): ``kind``, ``rate`` (fraction), ``sampling``, ``exclude_true``, and ``labels``:
            for kind ``file`` the SHA-256 of the label array; for :mod:`.training.corrections` that
            of images, labels, and which labels are known to be right.
        method (str): Name of a method.
        seed (int): Seed of split, noise, initial weights, order, crops and mix-up.
        common (dict): Batch size, optimizer and split; section ``[common]``.
        net (dict): Section ``[net]``.
        stages (dict): Hyper-parameters of each stage by name, in the order in which they run.
        precision (str): One of :data:`chainer_jo.precision.PRECISIONS`.
        modified (tuple): The overrides in force, ``key=value``: one per key, sorted, with
            normalised values, so that equal settings have equal ids.
        labels_file (str): ``FILE[:KEY]`` from which labels of kind ``file`` were read, if known;
            not part of the id.
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
    # Not compared: the same labels in another file are the same trial.
    labels_file: str | None = field(default=None, compare=False)

    @property
    def epochs(self):
        """Number of epochs of all stages together."""
        return sum(stage['epochs'] for stage in self.stages.values())

    # Cached: a table may have a thousand trials, and each needs its id many times.
    @cached_property
    def digest(self):
        """SHA-256 of everything that changes the result."""
        return store.digest(self.as_dict())

    @property
    def trial(self):
        """The trial id: readable words and eight hex digits of the digest."""
        noise = self.noise['kind']
        if self.noise['rate'] is not None:
            noise += f'-{self.noise["rate"]:g}'
        # Trials that differ only by an override have the same words, but need different folders.
        return f'{self.method}-{noise}-s{self.seed}-{self.digest[:8]}'

    def as_dict(self):
        """Returns what changes the result as plain JSON values; :func:`from_dict` reads it."""
        # All fields by default, so that a new setting cannot be forgotten in the digest.
        values = asdict(self) | {'modified': list(self.modified)}
        del values['labels_file']
        return values

    def as_record(self):
        """Returns :meth:`as_dict` with ``labels_file``: everything that ``command`` needs."""
        return self.as_dict() | ({'labels_file': self.labels_file} if self.labels_file else {})

    @property
    def command(self):
        """The command line that runs this trial, without ``--data``, ``--weights`` and ``--out``.

        ``FILE`` stands for an unknown label file. For the user's own images it is a ``correct``
        command, in which ``FOLDER`` stands for their folder, or a call of
        :func:`chainer_jo.train`.
        """
        if self.dataset not in datasets.NAMES:
            return self._command_on_own_images()
        words = ['python -m chainer_jo train', f'--preset {self.preset}']
        words += [f'--dataset {self.dataset}', f'--noise {self.noise["kind"]}']
        if self.noise['rate'] is not None:
            words.append(f'--rate {self.noise["rate"]!r}')
        if self.noise['kind'] == 'file':
            words.append(f'--labels {shlex.quote(self.labels_file or "FILE")}')
        words += [f'--method {self.method}', f'--seed {self.seed}']
        if self.precision != 'float32':
            words.append(f'--precision {self.precision}')
        return ' '.join(words + [f'--set {_quoted(override)}' for override in self.modified])

    def _command_on_own_images(self):
        if self.preset == 'correct':
            words = ['python -m chainer_jo correct FOLDER --out DIR', f'--seed {self.seed}']
            words += [] if self.precision == 'float32' else [f'--precision {self.precision}']
            return ' '.join(words + [f'--set {_quoted(override)}' for override in self.modified])
        noise = {'noise': self.noise['kind'], 'rate': self.noise['rate']}
        words = [f'{name}={value!r}' for name, value in noise.items() if value is not None]
        words = ['noisy_labels=LABELS'] if self.noise['kind'] == 'file' else words
        words += [f'seed={self.seed}', f'preset={self.preset!r}', f'precision={self.precision!r}']
        words.append(f'overrides={list(self.modified)!r}')
        return f'chainer_jo.train(IMAGES, {self.method!r}, {", ".join(words)})'


def _quoted(override):
    """Returns a shell word, always quoted: overrides in a result may come from anyone."""
    return "'" + override.replace("'", "'\\''") + "'"


def from_dict(values):
    """Returns the TrialConfig from the dict of :meth:`TrialConfig.as_dict`; ignores other keys."""
    known = {f.name: values[f.name] for f in fields(TrialConfig) if f.name in values}
    return TrialConfig(**known | {'modified': tuple(values['modified'])})


def trial(
    method,
    dataset,
    noise,
    rate,
    seed,
    preset='paper',
    overrides=(),
    precision='float32',
    labels=None,
    labels_file=None,
):
    """Resolves one trial: the paper's values, then the preset's, then ``key=value`` overrides.

    Args:
        method (str): Name of a method.
        dataset (str): Name of a data set.
        noise (str): ``symmetric``, ``asymmetric``, ``none`` or ``file``.
        rate (float): Noise rate, a fraction in ``[0, 1]``; ``None`` for ``none`` and ``file``.
        seed (int): From 0 to :data:`MOST_SEED`.
        preset (str): Name of a file in ``paper/presets``.
        overrides (sequence of str): ``section.key=value`` with a TOML value.
        precision (str): One of :data:`chainer_jo.precision.PRECISIONS`. Whether the backend
            supports it is checked later.
        labels (str): SHA-256 of the labels for noise ``file``.
        labels_file (str): The file from which they were read.

    Raises:
        ConfigError: A name or key does not exist, or a value has the wrong type or range.
    """
    if noise not in NOISE_KINDS:
        raise paper.unknown('noise', noise, NOISE_KINDS)
    if method not in paper.methods():
        raise paper.unknown('method', method, paper.methods())
    if dataset not in datasets.NAMES:
        raise paper.unknown('data set', dataset, datasets.NAMES)
    if not 0 <= seed <= MOST_SEED:
        raise ConfigError(
            f'the seed is not from 0 to {MOST_SEED:,}',
            seen=str(seed),
            fix=f'write a {"smaller number" if seed > 0 else "number from 0 on"}',
        )
    settings = paper.hyperparameters(preset, dataset)
    applied = dict(_override(settings, override) for override in overrides)
    modified = sorted(f'{key}={text}' for key, text in applied.items() if _concerns(key, method))
    _check_recorded(modified, labels_file)
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
    _check_stages(method, stages)
    return TrialConfig(
        preset=preset,
        dataset=dataset,
        noise={'kind': noise, 'rate': rate, 'labels': labels} | settings['noise'],
        method=method,
        seed=seed,
        common=settings['common'],
        # Without the usual net: trials that are older than this setting keep their ids.
        net={k: v for k, v in settings['net'].items() if (k, v) != ('link', 'preact_resnet')},
        stages=stages,
        precision=precision,
        modified=tuple(modified),
        labels_file=labels_file,
    )


def _check_recorded(modified, labels_file):
    """Raises ConfigError for texts with which no report would accept the result."""
    for override in modified:
        if len(override) > LONGEST_OVERRIDE:
            raise ConfigError(
                f'an override is longer than {LONGEST_OVERRIDE} characters',
                seen=excerpt(override),
                fix='add a preset with this value: see README.md',
            )
    if labels_file and not labels_file.isprintable():
        raise ConfigError(
            'the path of the labels contains a character that cannot be printed',
            seen=excerpt(labels_file),
            fix='rename the file, or its folder',
        )


def _check_stages(method, stages):
    for name, stage in stages.items():
        needed = ['epochs', 'learning_rate']
        for updater in paper.updaters(method, name):
            needed += paper.NEEDED.get(updater, ())
        if missing := [key for key in needed if key not in stage]:
            raise ConfigError(
                f'the stage {method}.{name} is not complete',
                seen=f'no {missing[0]} in hyperparameters.toml',
                fix=f'add it to the section [{method}.{name}]',
            )


def _checked_rate(noise, rate):
    if noise not in RATED:
        if rate is not None:
            raise ConfigError(
                f'noise {noise} has no rate', seen=f'rate {rate}', fix='leave out the rate'
            )
        return None
    if rate is None:
        raise ConfigError(
            f'{noise} noise needs a rate', seen='no --rate', fix='for example --rate 0.7 for 70 %'
        )
    check_rate(rate)
    return float(rate)


def _table_row(rows, noise, rate):
    """Returns the row of a table for a noise; without its rate, the nearest one (D-31)."""
    kind = 'asymmetric' if noise == 'asymmetric' else 'symmetric'
    # Tables of other methods may have the same rows for all noise.
    rows = [row for row in rows if row['noise'] == kind] or rows
    # The rate of labels from a file is unknown, so the middle column of Table 1 is used (D-31).
    wanted = 0.5 if rate is None else rate
    # Rounded, so that the first of two equally near rates is always taken.
    return min(rows, key=lambda row: round(abs(row['rate'] - wanted), 6))


def _concerns(key, method):
    """Returns whether a setting affects a method. One --set may serve a whole table."""
    section = key.partition('.')[0]
    return section == method or section not in paper.methods()


def _override(settings, override):
    """Applies ``key=value`` to ``settings``; returns the key and the normalised value."""
    key, equals, text = override.partition('=')
    key = key.strip()
    known = _keys(settings)
    if key not in known:
        # There are more than a hundred: those of one section, or the sections.
        section = key.partition('.')[0]
        own = [name for name in known if name.startswith(f'{section}.')]
        sections = dict.fromkeys(name.partition('.')[0] for name in known)
        listed = own or [f'{name}.…' for name in sections]
        raise paper.unknown('setting', key, own or known, listed)
    if not equals:
        raise ConfigError(f'{key} has no value', seen=repr(override), fix=f'write {key}=VALUE')
    *path, name = key.split('.')
    section = settings
    for step in path:
        # Copied on the way down: the dicts are shared with the cache of the TOML files.
        section[step] = dict(section[step])
        section = section[step]
    # A new value must have the type of the present one.
    section[name] = value = _checked(key, text.strip(), section[name], settings)
    return key, normalised(value)


def normalised(value):
    """Returns the text of an override's value, the same for 0.10 and 0.1."""
    return value if isinstance(value, str) else json.dumps(value)


def _keys(settings, prefix=''):
    keys = []
    for name, value in settings.items():
        if isinstance(value, dict) and name not in ('choices', 'ranges'):
            keys += _keys(value, f'{prefix}{name}.')
        elif prefix and name != 'title':
            keys.append(prefix + name)
    return keys


def _parse(text):
    try:
        parsed = tomllib.loads(f'value = {text}')
    except (ValueError, RecursionError):
        # Not TOML: an unquoted word, as typed in a shell.
        return text
    # A line break in the text could add a second key.
    return parsed['value'] if len(parsed) == 1 else text


_KINDS = {
    bool: 'true or false',
    int: 'a whole number',
    float: 'a number',
    list: 'a list of whole numbers',
}


def _checked(key, text, present, settings):
    choices, limits = (_rule(settings[kind], key) for kind in ('choices', 'ranges'))
    # Words come first: one of the choices is "true", which TOML would read as a Boolean.
    value = text if choices and text in choices else _parse(text)
    if choices and value in choices:
        return value
    # Some settings take a word or whole numbers; these have a range as well.
    if choices and not limits:
        raise paper.unknown(f'value for {key}', text, choices)
    # Text without choices names a table of numbers, such as Table 1.
    wanted = type(present) if not isinstance(present, str) else int if choices else float
    numbers = value if type(value) is list else [value]
    allowed = {float: (float, int), list: (int,)}.get(wanted, (wanted,))
    is_list = type(value) is list
    if is_list != (wanted is list) or any(type(number) not in allowed for number in numbers):
        example = wanted(1) if isinstance(present, str) else json.dumps(present)
        words = ''.join(f' or {choice}' for choice in choices or ())
        raise ConfigError(
            f'{key} takes {_KINDS[wanted]}{words}',
            seen=repr(text),
            fix=f'for example {key}={example}',
        )
    if wanted is not bool and not limits:
        raise ConfigError(
            f'{key} has no range',
            seen='no line for it in [ranges] of hyperparameters.toml',
            fix=f'add one, such as "{key}" = [0, 1]',
        )
    if wanted is not bool:
        _check_range(key, text, numbers, limits)
    return wanted(value)


def _rule(rules, key):
    """Returns the rule of the first pattern that matches the whole key, or ``None``."""
    return next((rule for pattern, rule in rules.items() if fnmatchcase(key, pattern)), None)


def _check_range(key, text, numbers, limits):
    least, largest = limits
    # NaN is in no range.
    if not all(least <= number <= largest for number in numbers):
        raise ConfigError(
            f'{key} is out of range',
            seen=repr(text),
            fix=f'choose a value from {least:g} to {largest:g}',
        )


def _check_net(net):
    if net['link'] != 'resnet50' and 'filters' not in net:
        raise ConfigError(
            'the settings of ResNet-50 are not those of another net',
            seen=f'net.link={net["link"]}, no net.filters',
            fix='leave out net.link, or choose a preset with net.filters for this data set',
        )
    # Checked here because ranges limit one key only, and each value alone is allowed.
    if 'blocks' in net and len(net['filters']) != len(net['blocks']) + 1:
        raise ConfigError(
            'net.filters and net.blocks do not fit together',
            seen=f'filters {net["filters"]}, blocks {net["blocks"]}',
            fix='give one number of filters for the stem and one for each entry of blocks',
        )
