#!/usr/bin/env bash
# Sets up .venv and runs the tests, three processes on two cores; --long includes those that take minutes.
# Other arguments are pytest's, for example -n 0 for one process alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash reproduce/setup.sh

# More than cores: many tests wait for processes that they start.
arguments=(-n "$(($(nproc) * 3 / 2))" -m 'not long')
for argument in "$@"; do
    if [ "$argument" = --long ]; then
        arguments+=(-m '')
    else
        arguments+=("$argument")
    fi
done
exec .venv/bin/python -m pytest "${arguments[@]}"
