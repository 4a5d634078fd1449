#!/usr/bin/env bash
# Ablations, which the paper does not have: its method with one choice changed at a time.
# Results: results/<preset>_ablations. Usage: as reproduce/table2.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash reproduce/setup.sh
exec .venv/bin/python -m chainer_jo run ablations "$@"
