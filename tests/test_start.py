"""What a start does without: what is heavy and not for every command."""

from __future__ import annotations

import subprocess
import sys


def test_the_command_line_imports_nothing_that_only_some_commands_need() -> None:
    code = "import sys, gateway.__main__; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "gateway.cli" in loaded
    heavy = {"rich", "fastapi", "sqlalchemy", "jinja2", "PIL", "redis", "gateway.console.app", "gateway.resources"}
    assert loaded & heavy == set()
