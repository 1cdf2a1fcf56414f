"""The settings as the local commands load them, and how they end when something is wrong."""

from __future__ import annotations

from typing import NoReturn

import typer

from gateway.config import Settings, load_settings
from gateway.errors import DarkroomError, reason_of


def load(ctx: typer.Context) -> Settings:
    try:
        return load_settings(ctx.obj)
    except DarkroomError as exc:
        fail_with(exc)


def fail_with(exc: DarkroomError) -> NoReturn:
    """The refusal on standard error, and exit status 1."""
    cause = f" ({reason_of(exc)})" if exc.__cause__ is not None and exc.code == "ledger_unavailable" else ""
    typer.echo(f"{exc.message}{cause}", err=True)
    raise typer.Exit(1)
