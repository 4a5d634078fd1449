"""The methods of the tables, one file each; a new one changes this folder and ``paper`` only."""

import ast
import importlib
from pathlib import Path

from chainer_jo import paper


def load(name):
    """Returns the Method class of the file ``name``: the last class that is defined there.

    Args:
        name (str): Name of the file, such as ``cross_entropy`` for the class ``CrossEntropy``.
    """
    module = importlib.import_module(f'chainer_jo.methods.{name}')
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]
    # The last one, because a base class may be defined before it.
    return own[-1]


def card(name):
    """Returns the card of a method: its file's docstring, then its settings at the paper's values.

    Raises:
        ConfigError: There is no such method.
    """
    if name not in paper.methods():
        raise paper.unknown('method', name, paper.methods())
    # Parsed, not imported: showing a card should not load Chainer.
    source = (Path(__file__).parent / f'{name}.py').read_text()
    lines = [ast.get_docstring(ast.parse(source)), '']
    settings = paper.hyperparameters('paper')[name]
    for stage, values in settings.items():
        if isinstance(values, dict):
            lines.append(
                f'{stage}: ' + ', '.join(f'{key}={value}' for key, value in values.items())
            )
    return '\n'.join(lines)
