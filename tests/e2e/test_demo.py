"""`darkroom demo plug`, smaller: bill and books are equal, and no process is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import psutil


async def test_the_plug_is_pulled_and_bill_and_books_are_equal(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "gateway", "demo", "plug", "--equal", "20", "--different", "20", "--json")
    before = set(psutil.pids())
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path.cwd())}, cwd=tmp_path
    )
    said, _ = await process.communicate()
    outcome = json.loads(said)
    assert (process.returncode, outcome["good"], outcome["answered"]) == (0, True, 40), outcome
    assert outcome["bill_usd"] == outcome["books_usd"]
    assert outcome["charged_calls"] >= 21
    assert list(tmp_path.iterdir()) == []
    left = [each for each in psutil.process_iter(["pid", "cmdline"]) if each.pid not in before]
    assert not [each for each in left if "darkroom-demo-" in " ".join(each.info["cmdline"] or [])]
