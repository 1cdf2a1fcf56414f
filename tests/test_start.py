"""A start: what it does without, and what it warns of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.resources import open_resources
from tests.support.gateway import settings_for


def test_the_command_line_imports_nothing_that_only_some_commands_need() -> None:
    code = "import sys, gateway.__main__; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "gateway.cli" in loaded
    heavy = {"rich", "fastapi", "sqlalchemy", "jinja2", "PIL", "redis", "gateway.console.app", "gateway.resources"}
    assert loaded & heavy == set()


@pytest.mark.parametrize("kept", [True, False])
async def test_a_secret_that_takes_the_generated_ones_place_is_warned_of(tmp_path: Path, kept: bool) -> None:
    settings = settings_for(tmp_path, "http://127.0.0.1:1", port=1)
    async with open_resources(settings):
        pass
    secrets = ["s" * 32, settings.generated("secret")] if kept else ["s" * 32]
    replaced = settings_for(tmp_path, "http://127.0.0.1:1", port=1, security={"secrets": secrets})
    with capture_logs() as lines:
        async with open_resources(replaced):
            pass
    told = [line for line in lines if line["event"] == "generated_secret_left_out"]
    assert [line["file"] for line in told] == ([] if kept else [str(tmp_path / "secret")])
    assert all("add it to security.secrets" in line["reason"] for line in told)
