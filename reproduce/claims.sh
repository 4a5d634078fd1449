#!/usr/bin/env bash
# What the paper's claims amount to, by pairs of trials of one seed: mix-up beside the KL divergence and
# the method against Tanaka's (claims), the parameter of Beta(a, a) at asymmetric 10 % (small_a), how
# often the learning rate falls in step 2 (decay). Results: results/<preset>_<table>.
#
#   bash reproduce/claims.sh --preset quick                 hours on two CPU cores, no download
#   bash reproduce/claims.sh --preset quick --trials 5      the first five seeds
#
# Options: as for reproduce/table2.sh, but --only, --rates and --out, which differ from table to table.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash reproduce/setup.sh
for table in claims small_a decay; do
    .venv/bin/python -m chainer_jo run "$table" "$@"
done
