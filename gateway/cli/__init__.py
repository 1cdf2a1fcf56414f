"""`darkroom`, the command: one module a group of commands. Administration goes over the HTTP API."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated

import typer

from gateway import __version__
from gateway.cli import safe_keeping, serve
from gateway.cli.accounts import key, team, user
from gateway.cli.administrators import admin
from gateway.cli.apply import apply, hash_key
from gateway.cli.cache import cache
from gateway.cli.demo import demo
from gateway.cli.demo_traffic import traffic
from gateway.cli.doctor import doctor
from gateway.cli.generate import generate
from gateway.cli.limits import limit
from gateway.cli.money import generation, reconcile
from gateway.cli.oversight import alerts, audit
from gateway.cli.provider_keys import provider_key
from gateway.cli.usage import usage
from gateway.cli.warm import warm
from gateway.cli.webhooks import webhook

app = typer.Typer(
    name="darkroom",
    help="A caching gateway for image-generation APIs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="PATH", help="The settings; else config.yaml here, if there is one."),
    ] = None,
    _version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False,
) -> None:
    """Options before the command."""
    ctx.obj = config
    if ctx.invoked_subcommand != "serve":  # which imports more, and turns it on when it is ready
        gc.enable()


app.add_typer(admin, name="admin")
app.add_typer(team, name="team")
app.add_typer(user, name="user")
app.add_typer(key, name="key")
app.add_typer(limit, name="limit")
app.add_typer(provider_key, name="provider-key")
app.add_typer(webhook, name="webhook")
app.add_typer(cache, name="cache")
app.add_typer(usage, name="usage")
app.add_typer(demo, name="demo")
app.add_typer(generation, name="generation")
key.command("hash")(hash_key)
demo.command("traffic")(traffic)
app.command()(apply)
app.command()(audit)
app.command()(alerts)
app.command()(reconcile)
app.command()(doctor)
app.command()(generate)
app.command()(warm)
serve.register(app)
safe_keeping.register(app)


def main() -> None:
    app()
