#!/usr/bin/env bash
# Tests the paper's claims on pairs of trials with the same seed: mix-up in addition to the KL divergence,
# and the method against Tanaka's (claims); the parameter of Beta(a, a) at asymmetric 10 % (small_a); how
# often the learning rate falls in step 2 (decay). Results: results/<preset>_<table>.
#
#   bash reproduce/claims.sh --preset quick                 hours on two CPU cores, no download
#   bash reproduce/claims.sh --preset quick --trials 5      the first five seeds
#
# Options: as for reproduce/table2.sh, except --only, --rates and --out, which differ between tables.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash reproduce/setup.sh
for table in claims small_a decay; do
    .venv/bin/python -m chainer_jo run "$table" "$@"
done
