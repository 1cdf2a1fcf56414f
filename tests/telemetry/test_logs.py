"""What a traceback in the log may show: where, never the values that were at hand."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import structlog
from gateway.telemetry.logs import configure_logs

def handle(authorization):
    raise ValueError("broken")

configure_logs(style=sys.argv[1], level="info")
try:
    handle("Bearer dk_live_" + "canary")
except ValueError:
    structlog.get_logger().exception("internal_error")
    import logging
    logging.getLogger("uvicorn.error").error("library", exc_info=True)
"""


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_traceback_shows_no_values(style: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, style], capture_output=True, text=True, check=True)
    assert done.stderr.count("ValueError: broken") == 2
    assert done.stderr.count("in handle") == 2
    assert "dk_live_canary" not in done.stderr
