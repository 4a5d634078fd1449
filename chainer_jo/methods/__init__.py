"""The methods of the tables, one file each; a new one changes this folder and ``paper`` only."""

import ast
import importlib
from pathlib import Path

from chainer_jo import paper
from chainer_jo.errors import ConfigError


def load(name):
    """Returns the Method class of the file ``name``: the last class that is defined there.

    Args:
        name (str): Name of the file, such as ``cross_entropy`` for the class ``CrossEntropy``.

    Raises:
        ConfigError: There is no such file, or its last class is no Method.
    """
    # Imported here, because cards are shown without Chainer.
    from chainer_jo.methods.base import Method

    path = _file(name)
    module = importlib.import_module(f'chainer_jo.methods.{name}')
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]
    # The last one, because a base class may be defined before it.
    if not own or not issubclass(own[-1], Method):
        seen = own[-1].__name__ if own else 'no class'
        seen = f'{seen} in chainer_jo/methods/{path.name}'
        raise _unfinished(name, seen, 'write a subclass of Method as its last class')
    return own[-1]


def _file(name):
    path = Path(__file__).parent / f'{name}.py'
    if not path.exists():
        raise _unfinished(name, f'no chainer_jo/methods/{name}.py', 'write this file')
    return path


def _unfinished(name, seen, fix):
    return ConfigError(f'the method {name} is not complete', seen=seen, fix=fix)


def card(name):
    """Returns the card of a method: its file's docstring, then its settings at the paper's values.

    Raises:
        ConfigError: There is no such method, or its file is missing or has no docstring.
    """
    if name not in paper.methods():
        raise paper.unknown('method', name, paper.methods())
    # Parsed, not imported: showing a card should not load Chainer.
    described = ast.get_docstring(ast.parse(_file(name).read_text()))
    if described is None:
        seen = f'no docstring in chainer_jo/methods/{name}.py'
        raise _unfinished(name, seen, 'describe it there, as the other methods are')
    lines = [described, '']
    settings = paper.hyperparameters('paper')[name]
    for stage, values in settings.items():
        if isinstance(values, dict):
            lines.append(
                f'{stage}: ' + ', '.join(f'{key}={value}' for key, value in values.items())
            )
    return '\n'.join(lines)
