"""`darkroom doctor`: is everything reachable, and are the books consistent. Works on this machine."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import typer

from gateway.cli.output import AsJson, console, show_json
from gateway.cli.settings import load
from gateway.errors import DarkroomError

_SIGNS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "failed": ("FAILED", "bold red")}


def doctor(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Check the configuration, the stores, the provider, and the books. Exit status 1 when something is wrong.

    It only looks, and may be run beside the gateway.
    """
    from gateway.resources import examine  # noqa: PLC0415  (heavy: not for every command)

    settings = load(ctx)
    try:
        checks = [dataclasses.asdict(check) for check in asyncio.run(examine(settings))]
    except DarkroomError as exc:
        checks = [{"name": "configuration", "status": "failed", "said": exc.message}]
    else:
        checks.insert(0, {"name": "configuration", "status": "ok", "said": "valid"})
    if as_json:
        show_json(checks)
    else:
        _show(checks)
    if any(check["status"] == "failed" for check in checks):
        raise typer.Exit(1)


def _show(checks: list[dict[str, Any]]) -> None:
    from rich.text import Text  # noqa: PLC0415  (heavy: not for every command)

    for check in checks:
        sign, style = _SIGNS[check["status"]]
        console().print(Text.assemble((f"{sign:<8}", style), f"{check['name']}: {check['said']}"))
