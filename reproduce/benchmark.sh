#!/usr/bin/env bash
# Seconds per training step and peak memory, compared with stock Chainer and PyTorch, on this
# machine's GPU, or on its CPU if there is no GPU or with --device cpu. Results: results/benchmarks/.
# Takes some minutes; no other programs should run.
#
# PyTorch is installed in a separate environment, .venv-peer. On Linux pip downloads the build with
# CUDA, some gigabytes; PIP_INDEX_URL names another index. Without PyTorch only the others are measured.
# Options: see python -m chainer_jo benchmark --help. With --net resnet50, logits and gradients are
# first compared with those of transformers, which is installed in .venv-peer too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash reproduce/setup.sh
case " $* " in *' -h '* | *' --help '*) exec .venv/bin/python -m chainer_jo benchmark --help ;; esac

has_peers() { .venv-peer/bin/python -c 'import numpy, safetensors, torch, transformers' 2>/dev/null; }

if ! has_peers; then
    printf 'benchmark: making .venv-peer with PyTorch, once\n' >&2
    .venv/bin/python -m venv --clear .venv-peer >&2 &&
        .venv-peer/bin/python -m pip install --disable-pip-version-check torch==2.13.0 numpy \
            transformers==5.24.0 safetensors==0.8.0 >&2 ||
        printf 'benchmark: no PyTorch, see above: only the others are measured\n' >&2
fi
if [[ " $* " =~ \ --net[\ =]resnet50\  ]] && has_peers; then
    .venv/bin/python reproduce/check_resnet50.py >&2
fi
exec .venv/bin/python -m chainer_jo benchmark "$@"
