"""Portkey's gateway, the one of its npm package, which forwards calls and caches none that are of pictures."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.peers.process import Peer
from benchmarks.peers.work import BENCH, PROVIDER_KEY
from tests.support.ports import free_port

_NODE = BENCH / "node" / "bin" / "node"
_PACKAGE = BENCH / "portkey" / "node_modules" / "@portkey-ai" / "gateway"


def portkey(folder: Path, provider_url: str, *, cores: set[int] | None = None) -> Peer:
    folder.mkdir()
    port = free_port()
    headers = {
        "x-portkey-provider": "openai",
        # Where the provider is: every call says so.
        "x-portkey-custom-host": f"{provider_url}/v1",
    }
    # Headless: without its page for people, which keeps every request for display.
    command = [str(_NODE), str(_PACKAGE / "build" / "start-server.js"), f"--port={port}", "--headless"]
    # The cheaper mode of Node's libraries.
    environment = {"NODE_ENV": "production"}
    return Peer("Portkey", command, port, "/", folder / "log", PROVIDER_KEY, headers, environment, cores)


def version() -> str:
    said = json.loads((_PACKAGE / "package.json").read_text(encoding="utf-8"))
    node = subprocess.run([str(_NODE), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{said['version']} (Node {node.removeprefix('v')})"
