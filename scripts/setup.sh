#!/bin/sh
# Makes .venv: the locked dependencies, checked against their hashes, and the project itself, editable.
set -eu
cd "$(dirname "$0")/.."

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "Darkroom needs Python 3.11 or newer; python3 here is: $(python3 --version 2>&1 || true)" >&2
    echo "Install it (Debian, Ubuntu: apt-get install python3 python3-venv), or say where it is: make PYTHON=/path/to/python3.11 setup" >&2
    exit 1
}

if ! { [ -x .venv/bin/python ] && is_new_enough .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; }; then
    python=$(find_python)
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        echo "$python lacks ensurepip, so it can't make a virtual environment." >&2
        echo "On Debian and Ubuntu: apt-get install python3-venv (or python3.11-venv)." >&2
        exit 1
    fi
    echo "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi

echo "Installing the locked dependencies"
# uv installs the rest in a twentieth of pip's time
.venv/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-build.txt
# compiled once here, not by every process where Python is told to write no bytecode: a start in half the time
.venv/bin/uv pip sync --system-certs --quiet --compile-bytecode --python .venv/bin/python --require-hashes requirements-dev.txt
.venv/bin/uv pip install --system-certs --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
.venv/bin/python -m compileall -q gateway
touch .venv/.ready
