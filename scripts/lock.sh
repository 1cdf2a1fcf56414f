#!/bin/sh
# Makes the locks again from pyproject.toml. Pins stay where they still fit; `make lock LOCK_FLAGS=--upgrade` lifts them.
set -eu
cd "$(dirname "$0")/.."

compile() {
    uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet "$@"
}

PATH="$PWD/.venv/bin:$PATH"
# Everything first; the others are cut from it, so that a package has one version everywhere.
compile pyproject.toml --extra otel --group dev --group build -o requirements-dev.txt "$@"
compile pyproject.toml -c requirements-dev.txt -o requirements.txt "$@"
compile pyproject.toml --extra otel -c requirements-dev.txt -o requirements-otel.txt "$@"
compile --group pyproject.toml:build -c requirements-dev.txt -o requirements-build.txt "$@"
compile --group pyproject.toml:bench -c requirements-dev.txt -o requirements-bench.txt "$@"
compile --group pyproject.toml:deploy --no-deps -o requirements-deploy.txt "$@"
compile --group pyproject.toml:fuzz -o requirements-fuzz.txt "$@"
compile --group pyproject.toml:node -o requirements-node.txt "$@"
compile --group pyproject.toml:peers -o requirements-peers.txt "$@"
