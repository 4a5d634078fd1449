#!/usr/bin/env bash
# Table 2: test accuracy for symmetric noise on CIFAR-10, and the curves of Figure 3(a).
#
#   bash reproduce/table2.sh --data DIR        the paper's settings: five trials per cell, on a GPU
#   bash reproduce/table2.sh --preset quick    minutes on two CPU cores, no download
#
# Results go to results/<preset>/. Run the same command again to resume. Options: see
# python -m chainer_jo run --help.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash reproduce/setup.sh
exec .venv/bin/python -m chainer_jo run table2 "$@"
