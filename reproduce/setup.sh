#!/usr/bin/env bash
# Makes .venv with everything the package needs: once, and again when the requirements change.
# Does nothing when .venv is up to date. PYTHON=... names the interpreter to make it from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'set-up: %s\n' "$*" >&2; }

fail() {
    printf 'error: %s\n  seen: %s\n  fix:  %s\n' "$@" >&2
    exit 2
}

# A copied or moved folder needs a new .venv: the scripts in it hold the path.
requirements() {
    cat setup.py reproduce/setup.sh reproduce/build-constraint.txt
    pwd
    command -v nvidia-smi || true
}

stamp=.venv/made-from
up_to_date() {
    [ -x .venv/bin/python ] && [ -f $stamp ] && [ "$(cat $stamp)" = "$(requirements | cksum)" ]
}

python_is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

choose_python() {
    local candidate candidates=(python3 python3.13 python3.12 python3.11)
    [ -z "${PYTHON-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        if python_is_new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail 'no Python 3.11 or newer' \
        "${candidates[0]}: $("${candidates[0]}" --version 2>&1 | tail -n 1)" \
        'install Python 3.11 or newer, or name one: PYTHON=/path/to/python3 bash reproduce/setup.sh'
}

# The extra for the CUDA version that the driver supports, or nothing.
cuda_extra() {
    local seen major
    seen=$(nvidia-smi 2>&1) || { say 'no NVIDIA driver found: the CPU is used'; return; }
    major=$(sed -n 's/.*CUDA[A-Za-z ]*Version: *\([0-9]*\).*/\1/p' <<<"$seen" | head -n 1)
    if [ "${major:-0}" -ge 13 ]; then
        printf ',cuda13'
    elif [ "${major:-0}" -eq 12 ]; then
        printf ',cuda12'
    else
        say "the NVIDIA driver supports CUDA ${major:-(unknown)}, CuPy needs 12: the CPU is used"
    fi
}

install() {
    local python extras quiet=()
    # Emptying it would destroy an environment that other folders may use.
    [ ! -L .venv ] || fail '.venv is a link' "$(readlink .venv)" 'delete the link'
    python=$(choose_python)
    extras=cpu,dask,dev,mpi$(cuda_extra)
    say "making .venv with $("$python" --version) and [$extras]; takes some minutes, once"
    rm -f $stamp
    "$python" -m venv --clear .venv >&2 || fail 'cannot make .venv' \
        "$python -m venv failed, see above" \
        'install the venv module (Debian, Ubuntu: apt install python3-venv), or make room'
    [ -t 2 ] || quiet=(--quiet)
    # pip below 25.3 reads the first name for builds, later ones the second. Both split the value
    # at spaces, so the path is relative.
    PIP_CONSTRAINT=reproduce/build-constraint.txt \
    PIP_BUILD_CONSTRAINT=reproduce/build-constraint.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
        .venv/bin/python -m pip install ${quiet[@]+"${quiet[@]}"} --use-pep517 \
        --editable ".[$extras]" >&2 || fail 'cannot install the packages' \
        'pip failed, see above' \
        'check the network and the package index, then run the same command again'
    requirements | cksum >$stamp
    say 'done'
}

up_to_date && exit
# Of two calls at once the second waits; the script itself is the lock file.
if command -v flock >/dev/null; then
    exec 9>>reproduce/setup.sh
    flock --nonblock 9 || { say 'waiting for another set-up to end'; flock 9; }
    up_to_date && exit
fi
install
