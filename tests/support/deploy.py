"""What is in deploy/, and the programs that read it (scripts/install-deploy-tools.sh)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from gateway.config import Settings, load_settings

DEPLOY = Path(__file__).parents[2] / "deploy"
TOOLS = Path(sys.prefix) / "deploy"
"""Wheels are unpacked in it, programs are in bin/."""

_SECRET = re.compile(r"\$\{file:/run/secrets/(?:darkroom/)?(\w+)\}")
_VALUES = {
    "encryption_key": "e" * 43,
    "database_url": "postgresql://u:p@db.test/darkroom",
    "redis_url": "redis://r.test",
}


def run(program: str, *args: str | Path, cwd: Path | None = None) -> str:
    """What it says. A failure shows all that it said."""
    done = subprocess.run(
        [TOOLS / "bin" / program, *args], cwd=cwd, capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documents(text: str) -> list[Any]:
    return [document for document in yaml.safe_load_all(text) if document is not None]


def settings_of(text: str, folder: Path) -> Settings:
    """A configuration file as `check-config` and `serve` load it, with a value for each secret that it names."""

    def kept(match: re.Match[str]) -> str:
        file = folder / match[1]
        file.write_text(_VALUES.get(match[1], "s" * 32), encoding="utf-8")
        return f"${{file:{file}}}"

    config = folder / "config.yaml"
    config.write_text(_SECRET.sub(kept, text), encoding="utf-8")
    return load_settings(config)
