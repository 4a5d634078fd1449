#!/usr/bin/env bash
# Runs tests/gpu where there is no GPU: CuPy and cuDNN's front end as they come from PyPI, on
# libraries in the place of CUDA's in which the CPU does the work. Arguments are pytest's; after --
# comes another command. It says nothing about speed.
#
#   bash tests/gpu/on_cpu/run.sh -k captured
#   bash tests/gpu/on_cpu/run.sh -- python -m chainer_jo doctor
#
# Needs g++ on Linux and x86-64. CUDA=12 takes CuPy 13.6 and CUDA 12 instead of CuPy 14.2 and CUDA 13.
# CUDA_ON_CPU_TRACE=1 prints a line for every kernel that is launched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
bash reproduce/setup.sh

export CUDA=${CUDA:-13}
here=$PWD/tests/gpu/on_cpu
packages=$PWD/.venv/cuda$CUDA-on-cpu
# CuPy with what it imports, and the headers of CUDA.
if [ "$CUDA" = 12 ]; then
    cuda=$packages/nvidia/cuda_runtime
    wanted=(cupy-cuda12x==13.6.0 fastrlock==0.8.3 nvidia-cuda-runtime-cu12==12.9.79)
else
    cuda=$packages/nvidia/cu13
    wanted=(cupy-cuda13x==14.2.0 cuda-pathfinder==1.9.0 nvidia-cuda-runtime==13.0.96)
fi
wanted+=(nvidia-cuda-crt==13.0.88 nvidia-cudnn-frontend==1.23.0)

if [ "$(cat "$packages/wanted" 2>/dev/null)" != "${wanted[*]}" ]; then
    command -v g++ >/dev/null || {
        printf 'error: no compiler\n  seen: no g++ in PATH\n  fix:  apt install g++\n' >&2
        exit 2
    }
    printf 'on_cpu: fetches CuPy, once\n' >&2
    rm -rf "$packages"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
        --target "$packages" "${wanted[@]}" >&2
    [ -e "$cuda/include/crt" ] || ln -s "$packages/nvidia/cu13/include/crt" "$cuda/include/crt"
    printf '%s' "${wanted[*]}" >"$packages/wanted"
fi

export CUDA_PATH=$cuda CUDA_ON_CPU=$packages/libraries
export CUPY_CACHE_DIR=$CUDA_ON_CPU/kernels CUPY_ACCELERATORS=  # CUB's kernels are for GPUs alone
export PYTHONPATH=$packages PATH=$PWD/.venv/bin:$PATH
python "$here/on_cpu.py"
PYTHONPATH=$here/site:$PYTHONPATH
# As where only the driver is installed: CUDA's runtime, where there is one, is hidden by empty files.
hides=$packages/hides
mkdir -p "$hides"
: >"$hides/libcudart.so.12"
: >"$hides/libcudart.so.13"
export LD_LIBRARY_PATH=$hides
if [ "${1-}" = -- ]; then
    shift
    exec "$@"
fi
exec python -m pytest tests/gpu "$@"
