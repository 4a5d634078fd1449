#!/usr/bin/env bash
# Checks and measures chainer_jo on a machine with an NVIDIA GPU and without a network.
#
#   bash reproduce/gpu_check.sh --wheels DIR [PYTHON_VERSION]       with a network: fills DIR, once
#   bash reproduce/gpu_check.sh DIR [SECONDS] [OUT] [-- DATA]       on the machine with the GPU
#
# The machine needs Python 3.11 or newer with NumPy, CuPy and cuDNN 9, and PyTorch for the comparison.
# Other packages that are needed and not installed there are installed from the wheels in DIR to
# OUT/packages; caches of compilers go to OUT/caches. DIR is for Linux on x86-64 and Python 3.12, or
# the given version.
#
# Runs these parts in order, each in the rest of SECONDS (default 540): doctor, tests/gpu, the
# benchmark, trials side by side, and training: ours at 50 % symmetric noise, in float32 and then in
# float16, with the paper's settings on the CIFAR-10 files in DATA, or with the quick preset without
# DATA. It ends before SECONDS are over. The same command resumes a training that was cut short.
# OUT (default gpu-check) gets at most eight small files, above all report.txt of at most 60 lines;
# OUT/logs has the output of the parts.
#
# PARTS="tests benchmark jobs train" selects parts; PYTHON names the interpreter.
# Exit codes: 0 all parts done, or cut short for lack of time; 1 a part failed, see the report; 2 no
# usable GPU.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
parts=" ${PARTS:-tests benchmark jobs train} "
MARGIN=30   # Seconds for a part that is cut short to save and exit, and to write the report.
SHORTEST=20 # A part does not start with fewer seconds.

say() { printf 'gpu_check: %s\n' "$*" >&2; }

fail() {
    printf 'error: %s\n  seen: %s\n  fix:  %s\n' "$@" >&2
    exit 2
}

usage='bash reproduce/gpu_check.sh DIR [SECONDS] [OUT] [-- DATA], or --wheels DIR'

# Packages that chainer_jo and its tests import, and that a machine with PyTorch and CuPy may lack.
# SciPy, which only compares results, is not needed here.
fill() {
    local folder=$1 version=${2:-3.12} tag platforms=()
    for tag in 2_28 2_27 2_17 2014 1; do
        platforms+=(--platform "manylinux${tag/#2_/_2_}_x86_64")
    done
    mkdir -p "$folder"
    # Chainer is built from source, and its build needs the constraint.
    PIP_CONSTRAINT=$root/reproduce/build-constraint.txt \
    PIP_BUILD_CONSTRAINT=$root/reproduce/build-constraint.txt \
        "$python" -m pip wheel --no-deps --wheel-dir "$folder" chainer==7.8.1
    "$python" -m pip download --no-deps --only-binary=:all: --implementation cp \
        --python-version "$version" "${platforms[@]}" --dest "$folder" \
        nvidia-cudnn-frontend==1.23.0 filelock six typing_extensions protobuf packaging \
        pooch platformdirs requests urllib3 idna certifi charset-normalizer \
        rich markdown-it-py mdurl pygments pillow jinja2 markupsafe threadpoolctl \
        matplotlib contourpy cycler fonttools kiwisolver pyparsing python-dateutil \
        pytest pluggy iniconfig hypothesis sortedcontainers
    say "$folder: $(du -sh "$folder" | cut -f1) in $(find "$folder" -name '*.whl' | wc -l) wheels"
}

if [ "${1-}" = --help ] || [ "${1-}" = -h ]; then
    printf 'usage: %s\n\n' "$usage"
    sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit
fi

if [ "${1-}" = --wheels ]; then
    [ -n "${2-}" ] || fail 'no folder for the wheels' "$*" "$usage"
    fill "$2" "${3-}"
    exit
fi

data= positional=()
while [ $# -gt 0 ]; do
    if [ "$1" = -- ]; then
        [ $# -eq 2 ] || fail 'after -- comes one path' "$*" "$usage"
        data=$2
        break
    fi
    positional+=("$1")
    shift
done
set -- "${positional[@]+"${positional[@]}"}"
{ [ $# -ge 1 ] && [ $# -le 3 ]; } || fail 'one to three arguments are needed' "$# of them" "$usage"
wheels=$1 limit=${2:-540} out=${3:-gpu-check}
[ -d "$wheels" ] || fail 'there is no such folder of wheels' "$wheels" \
    "with a network: bash reproduce/gpu_check.sh --wheels $wheels"
{ [[ $limit =~ ^[0-9]+$ ]] && [ "$limit" -ge 60 ]; } ||
    fail 'SECONDS is not a whole number from 60' "$limit" "$usage"
[ -z "$data" ] || [ -e "$data" ] || fail 'there is no such file or folder of data' "$data" "$usage"
[ -z "$data" ] || data=$(realpath "$data")
wheels=$(realpath "$wheels")
end=$((SECONDS + limit - MARGIN))

seen=$("$python" -c 'import cupy; print(cupy.cuda.runtime.getDeviceProperties(0)["name"])' 2>&1) ||
    fail 'no GPU that CuPy can use' "$python: $(tail -n 1 <<<"$seen")" \
        'run it on a machine with an NVIDIA GPU, its driver and CuPy; PYTHON names the interpreter'

mkdir -p "$out/logs" "$out/caches"
out=$(realpath "$out")
export PYTHONPATH=$out/packages${PYTHONPATH:+:$PYTHONPATH}
export CUPY_CACHE_DIR=$out/caches/cupy TRITON_CACHE_DIR=$out/caches/triton
export TORCHINDUCTOR_CACHE_DIR=$out/caches/inductor
cd "$root"
failed=0

# Prints the wheels whose package is not installed, or is not the pinned version.
missing() {
    "$python" - "$wheels" <<'PYTHON'
import importlib.metadata
import pathlib
import sys

for wheel in sorted(pathlib.Path(sys.argv[1]).glob('*.whl')):
    name, version = wheel.name.split('-')[:2]
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = None
    if found is None or (name == 'nvidia_cudnn_frontend' and found != version):
        print(wheel)
PYTHON
}

install() {
    local names
    mapfile -t names < <(missing)
    [ ${#names[@]} -gt 0 ] || return 0
    say "installs ${names[*]##*/}"
    "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --upgrade \
        --target "$out/packages" "${names[@]}" >&2 || fail 'cannot install the wheels' \
        'pip failed, see above' "fill the folder for $("$python" --version), see --wheels"
}

# part NAME COMMAND...: runs a command in the time that is left; its output goes to a log. STOP is the
# signal that stops it.
part() {
    local name=$1 left=$((end - SECONDS)) begin=$SECONDS code=0 how=
    shift
    if [ $left -lt $SHORTEST ]; then
        printf '%s: no time left\n' "$name" >>"$out/logs/parts"
        return
    fi
    say "$name, at most $left s"
    timeout --signal="${STOP:-TERM}" --kill-after=$((MARGIN - 10)) $left "$@" >"$out/logs/$name" 2>&1 || code=$?
    # 137 before the time is over: something else has killed it, such as the kernel without memory.
    [ $code != 137 ] || [ $((SECONDS - begin)) -lt $left ] || code=124
    case $code in
        0) ;;
        124) how=', cut' ;;
        *) how=", exit code $code" failed=1 ;;
    esac
    printf '%s: %d s%s\n' "$name" $((SECONDS - begin)) "$how" >>"$out/logs/parts"
}

wanted() { [[ $parts == *" $1 "* ]]; }

train() {
    local settings=(--preset quick --dataset fashion_mnist)
    [ -z "$data" ] || settings=(--preset paper --dataset cifar10 --data "$data")
    part "training-$1" "$python" -m chainer_jo train "${settings[@]}" --method ours \
        --noise symmetric --rate 0.5 --precision "$1" --device cuda:0 --snapshot-seconds 20 \
        --out "$out/trials/$1"
    cat "$out/trials/$1/runs/"*/log.jsonl >"$out/$1.jsonl" 2>/dev/null || rm -f "$out/$1.jsonl"
}

excerpt() { # NAME LINES
    [ -s "$out/logs/$1" ] || return 0
    printf -- '--- %s\n' "$1"
    tail -n "$2" "$out/logs/$1" | cut -c1-200
}

rows() { # FILE PATTERN
    [ -s "$out/$1" ] || return 0
    printf -- '--- %s\n' "$1"
    grep -E "^\| |$2" "$out/$1" | grep -v '^| ---' | cut -c1-200
}

report() (
    set +e +o pipefail # A part without output has no lines for grep to find.
    {
        cat "$out/logs/parts"
        grep -E "^(python|numpy|cuda|gpu|backend|to mend) " "$out/logs/doctor" | cut -c1-200
        excerpt tests 6
        rows gpu.md 'times as fast|is not measured|are not counted' | head -n 32
        [ -s "$out/gpu.md" ] || excerpt benchmark 6
        rows jobs-gpu.md 'side by side are fastest'
        excerpt training-float32 3
        excerpt training-float16 3
    } | head -n 60 >"$out/report.txt"
    cat "$out/report.txt"
)

: >"$out/logs/parts"
install
part doctor "$python" -m chainer_jo doctor --device cuda:0
if [ $failed = 1 ]; then
    cat "$out/logs/doctor" >&2
    fail 'the GPU cannot be used' "see above" 'mend what doctor names'
fi
if wanted tests; then
    # In parallel, since most tests wait for compilers. pytest-benchmark warns about xdist, and
    # warnings are errors here.
    side_by_side=()
    "$python" -c 'import xdist' 2>/dev/null && side_by_side=(-n 8 -p no:benchmark)
    # On SIGINT, pytest reports what has failed so far.
    STOP=INT part tests "$python" -m pytest -rfEs --durations 6 -p no:cacheprovider \
        ${side_by_side[@]+"${side_by_side[@]}"} tests/gpu
    cp "$out/logs/tests" "$out/tests.txt" || true
fi
if wanted benchmark; then
    part benchmark "$python" -m chainer_jo benchmark --device cuda:0 --peer "$python" --out "$out"
fi
if wanted jobs; then
    part jobs "$python" -m chainer_jo benchmark --device cuda:0 --jobs 1,2,4 --steps 3 --out "$out"
fi
if wanted train; then
    train float32
    train float16
fi
report
exit $failed
