#!/usr/bin/env bash
# Figure 3: accuracy against the epoch of fine-tuning, for 90 % symmetric and 30 % asymmetric noise;
# the presets quick and short have other rates.
# Usage: as reproduce/table2.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash reproduce/setup.sh
exec .venv/bin/python -m chainer_jo run figure3 "$@"
