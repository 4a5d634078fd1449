#!/usr/bin/env bash
# Table 3: test accuracy for asymmetric noise on CIFAR-10. Usage: as reproduce/table2.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash reproduce/setup.sh
exec .venv/bin/python -m chainer_jo run table3 "$@"
