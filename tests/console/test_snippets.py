"""The call as code asks for exactly what was asked: run by a shell, by Python and by Node, whatever the prompt says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.console.pages.pictures import snippets

_PROMPT = 'it\'s $(touch pwned) `touch pwned` "q" \\n \\ back\nnew\r\nline \u2028 é 😀 !! $HOME ${x} {{x}} @f </script>'
_BODY: dict[str, Any] = {
    "model": "flux-pro",
    "prompt": _PROMPT,
    "seed": 2**31,
    "image_size": {"width": 512, "height": 768},
    "guidance_scale": 3.5,
    "sync_mode": True,
    "note": None,
}
_CURL = '#!/bin/sh\nfor last; do :; done\nprintf %s "$last" > asked.json\n'
_OPENAI_PY = """
import json
class OpenAI:
    def __init__(self, **_options): self.images = self
    def generate(self, extra_body, **named):
        json.dump({**named, **extra_body}, open("asked.json", "w"))
        raise SystemExit(0)
"""
_NODE = """
import { writeFileSync } from "node:fs";
const keep = (text) => { writeFileSync("asked.json", text); process.exit(0); };
class OpenAI { images = { generate: (body) => keep(JSON.stringify(body)) }; }
globalThis.fetch = (_url, options) => keep(options.body);
"""


@pytest.fixture(params=[2**31, 2**53 - 1, 2**63 - 1])
def body(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {**_BODY, "seed": request.param}


def _asked(where: Path, *command: str) -> Any:
    env = {"PATH": f"{where}:/usr/local/bin:/usr/bin:/bin", "DARKROOM_API_KEY": "dk_test_x", "PYTHONPATH": str(where)}
    subprocess.run(command, cwd=where, env=env, check=True, capture_output=True, timeout=60)
    assert not (where / "pwned").exists()
    return json.loads((where / "asked.json").read_text("utf-8"))


def test_curl(tmp_path: Path, body: dict[str, Any]):
    (tmp_path / "curl").write_text(_CURL)
    (tmp_path / "curl").chmod(0o755)
    assert _asked(tmp_path, "sh", "-c", dict(snippets("http://gateway", body))["curl"]) == body


def test_python(tmp_path: Path, body: dict[str, Any]):
    (tmp_path / "openai.py").write_text(_OPENAI_PY)
    assert _asked(tmp_path, sys.executable, "-c", dict(snippets("http://gateway", body))["Python"]) == body


@pytest.mark.browser
def test_node(tmp_path: Path, body: dict[str, Any]):
    node = shutil.which("node")
    assert node, "Node is not there: run `make check`, which installs it"
    text = dict(snippets("http://gateway", body))["Node"].replace('import OpenAI from "openai";', "")
    (tmp_path / "asks.mjs").write_text(_NODE + text, "utf-8")
    assert _asked(tmp_path, node, "asks.mjs") == body
