#!/usr/bin/env bash
# How well wrong labels are found: chainer_jo.correct beside cleanlab, which sees out-of-sample
# probabilities of the same net by 5-fold cross-validation, trained as long and for a third of that,
# and beside cleanlab on our net's own outputs. Writes results/label_audit.md; what was measured before
# is not measured again.
#
#   bash reproduce/label_audit.sh                  Fashion-MNIST, which is part of the package: an hour on two cores
#   bash reproduce/label_audit.sh --data DIR       and 10,000 images of CIFAR-10
#
# cleanlab gets an environment of its own, .venv-cleanlab. Options: see label_audit.py --help.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash reproduce/setup.sh
case " $* " in *' -h '* | *' --help '*) exec .venv/bin/python reproduce/label_audit.py --help ;; esac
if ! .venv-cleanlab/bin/python -c 'import cleanlab, sklearn' 2> /dev/null; then
    .venv/bin/python -m venv --clear .venv-cleanlab
    .venv-cleanlab/bin/python -m pip install -q --disable-pip-version-check cleanlab==2.9.0
fi
exec .venv/bin/python reproduce/label_audit.py "$@"
