#!/usr/bin/env bash
# Runs tests/gpu where there is no GPU: CuPy and cuDNN's front end as they come from PyPI, on
# libraries in the place of CUDA's in which the CPU does the work. Arguments are pytest's; after --
# comes another command.
#
#   bash tests/gpu/on_cpu/run.sh -k captured
#   bash tests/gpu/on_cpu/run.sh -- python -m chainer_jo doctor
#
# Needs g++ on Linux and x86-64. CUDA_ON_CPU_TRACE=1 prints a line for every kernel that is launched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
bash reproduce/setup.sh

here=$PWD/tests/gpu/on_cpu
packages=$PWD/.venv/cuda_on_cpu
wanted=(
    cupy-cuda13x==14.2.0 cuda-pathfinder==1.9.0 nvidia-cudnn-frontend==1.23.0
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-crt==13.0.88  # headers
)

if [ "$(cat "$packages/wanted" 2>/dev/null)" != "${wanted[*]}" ]; then
    command -v g++ >/dev/null || { printf 'error: no g++\n  fix:  apt install g++\n' >&2; exit 2; }
    printf 'on_cpu: fetches CuPy, once\n' >&2
    rm -rf "$packages"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
        --target "$packages" "${wanted[@]}" >&2
    printf '%s' "${wanted[*]}" >"$packages/wanted"
fi

export CUDA_PATH=$packages/nvidia/cu13 CUDA_ON_CPU=$packages/libraries
export CUPY_CACHE_DIR=$packages/cache CUPY_ACCELERATORS=
export PYTHONPATH=$packages PATH=$PWD/.venv/bin:$PATH
python "$here/on_cpu.py"
PYTHONPATH=$here/site:$PYTHONPATH
if [ "${1-}" = -- ]; then
    shift
    exec "$@"
fi
exec python -m pytest tests/gpu "$@"
