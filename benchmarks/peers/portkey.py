"""Portkey's gateway, the one of its npm package, which forwards calls and caches none that are of pictures."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.peers.peer import Peer
from benchmarks.peers.work import BENCH
from benchmarks.servers import PROVIDER_KEY
from tests.support.ports import free_port

_NODE = BENCH / "node" / "bin" / "node"
_PACKAGE = BENCH / "portkey" / "node_modules" / "@portkey-ai" / "gateway"


def portkey(folder: Path, provider_url: str) -> Peer:
    folder.mkdir()
    port = free_port()
    headers = {
        "x-portkey-provider": "openai",
        # Where the provider is: every call says so.
        "x-portkey-custom-host": f"{provider_url}/v1",
    }
    # Headless: without its page for people, which keeps every request for display.
    command = [str(_NODE), str(_PACKAGE / "build" / "start-server.js"), f"--port={port}", "--headless"]
    return Peer(
        "Portkey",
        command,
        port=port,
        ready_path="/",
        log=folder / "log",
        key=PROVIDER_KEY,
        headers=headers,
        environment={"NODE_ENV": "production"},  # the cheaper mode of Node's libraries
    )


def version() -> str:
    said = json.loads((_PACKAGE / "package.json").read_text(encoding="utf-8"))
    node = subprocess.run([str(_NODE), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{said['version']} (Node {node.removeprefix('v')})"
