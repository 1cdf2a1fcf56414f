"""`darkroom`, as an operator types it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.support.gateway import ADMIN_KEY, Gateway


class Shell:
    """Runs commands with the environment of an operator."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        self.gateway = gateway
        self.folder = folder
        self.env = {**os.environ, "DARKROOM_BASE_URL": gateway.base_url, "DARKROOM_ADMIN_KEY": ADMIN_KEY}

    async def run(self, *args: str, status: int = 0) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *args, cwd=self.folder, env={**self.env, "PYTHONPATH": str(Path.cwd())},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == status, out.decode()
        return out.decode()

    async def json(self, *args: str) -> Any:
        return json.loads(await self.run(*args, "--json"))
