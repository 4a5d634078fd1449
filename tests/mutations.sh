#!/usr/bin/env bash
# Asks of the tests whether they would notice: changes one line of a copy of the package at a time,
# as tests/mutations.toml lists them, and runs the tests that should fail. Nothing here is changed.
# Not part of the suite: on two cores all of them take about 15 minutes.
#
#   bash tests/mutations.sh                     all of them
#   bash tests/mutations.sh prior-loss-sign     those of these names
#   bash tests/mutations.sh 'datasets/*'        or of these files of the package
#
# Prints a line for each mutation: `killed` and by which test, `SURVIVED` where all tests still pass,
# or `could not be applied` where the line has changed since, or the tests cannot be run. Then the
# three counts. Exit code 0 if all were killed, 1 if not, 2 if there is no such mutation.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash reproduce/setup.sh
exec .venv/bin/python tests/mutations.py "$@"
