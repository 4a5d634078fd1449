#!/usr/bin/env bash
# The fault suite in its long form, and its figures in results/reliability.md. Takes 15 minutes to an
# hour on two cores. Arguments are pytest's; with any, the figures are those of a part.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bash reproduce/setup.sh
RELIABILITY="${*@Q}" exec .venv/bin/python -m pytest tests/faults -m '' -n auto "$@"
