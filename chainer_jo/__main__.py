"""Runs the command line, if this Python has the packages that it needs."""

import sys

from chainer_jo.errors import not_installed

try:
    from chainer_jo.cli import main
except ModuleNotFoundError as error:
    # The first thing to go wrong in a new clone: the Python of the system was started.
    missing = not_installed(error)
    sys.stderr.write(f'{missing}\n')
    sys.exit(missing.exit_code)

main()
