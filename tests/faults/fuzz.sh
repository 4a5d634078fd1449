#!/usr/bin/env bash
# Fuzzes each reader of foreign files for SECONDS (60 if not said), and puts a line for each into
# results/reliability.md. What it finds lies in the folder .fuzz/. Names of readers may follow.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bash reproduce/setup.sh
mkdir -p .fuzz

# An environment of its own: atheris is for no user, and it sees the packages of .venv. Locked,
# because several readers may be started at once.
(
    flock 9
    if ! .venv-fuzz/bin/python -c 'import atheris, chainer_jo' 2>/dev/null; then
        .venv/bin/python -m venv --clear .venv-fuzz
        .venv-fuzz/bin/python -m pip install --quiet --disable-pip-version-check atheris==3.0.0
        site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        own=$(.venv-fuzz/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        printf 'import site; site.addsitedir("%s")\n' "$site" >"$own/packages-of-the-project.pth"
    fi
) 9>.fuzz/lock
OMP_NUM_THREADS=1 exec .venv-fuzz/bin/python tests/faults/fuzz.py .fuzz "${1:-60}" "${@:2}"
