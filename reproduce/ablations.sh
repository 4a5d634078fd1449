#!/usr/bin/env bash
# Ablations that the paper does not print: its method with one choice changed at a time.
# Use as reproduce/table2.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash reproduce/setup.sh
exec .venv/bin/python -m chainer_jo run ablations "$@"
