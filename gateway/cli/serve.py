"""`serve`, `check-config`, `migrate`: the commands that work on this machine, not over HTTP."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
import uvicorn
import uvloop
from starlette.types import ASGIApp

from gateway.api.one_write import OneWriteProtocol
from gateway.config import Settings, load_settings
from gateway.config_sections import AimlapiSettings
from gateway.errors import DarkroomError
from gateway.telemetry.logs import configure_logs

_EXAMPLE = '{"model": "flux-pro", "prompt": "A lighthouse at dawn", "seed": 42}'


def register(app: typer.Typer) -> None:
    app.command()(serve)
    app.command("check-config")(check_config)
    app.command()(migrate)


def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on (server.host).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (server.port).")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes (server.workers); 1 in this version.")] = None,
) -> None:
    """Run the gateway. An embedded database is migrated first, after a snapshot."""
    for name, value in (("HOST", host), ("PORT", port), ("WORKERS", workers)):
        if value is not None:
            os.environ[f"DARKROOM__SERVER__{name}"] = str(value)
    settings = _load(ctx)
    configure_logs(style=settings.log.format, level=settings.log.level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except DarkroomError as exc:
        _fail(exc)


async def _serve(settings: Settings) -> None:
    """Open, serve until a signal, close. Raises DarkroomError when something can't be opened."""
    from gateway.app import create_app  # noqa: PLC0415  (heavy: not for every command)
    from gateway.resources import open_resources  # noqa: PLC0415

    async with open_resources(settings) as resources:
        app = create_app(settings, resources=resources)
        await _Server(_uvicorn_config(app, settings), settings).serve()


def check_config(ctx: typer.Context) -> None:
    """Load the settings as `serve` does, and say what they come to. Exit 1 with every mistake."""
    from gateway.resources import served_models  # noqa: PLC0415  (heavy: not for every command)

    settings = _load(ctx)
    try:
        models = served_models(settings)
    except DarkroomError as exc:
        _fail(exc)
    typer.echo(
        f"Listens on {settings.server.host}:{settings.server.port}, images at {settings.server.base_url}/images/"
    )
    typer.echo(
        f"Data in {settings.data_dir}, database: {'SQLite there' if settings.database_url is None else 'configured'}"
    )
    for model in models.values():
        typer.echo(f"Serves {model.name} (version {model.version}) by {model.provider}")
    for provider in settings.providers:
        if isinstance(provider, AimlapiSettings) and not provider.api_keys:
            typer.echo(
                f"{provider.name} has no key, so live calls get 503: set AIMLAPI_API_KEY, or providers[].api_keys"
            )
    typer.echo("The configuration is valid.")


def migrate(ctx: typer.Context) -> None:
    """Bring the database to this version's schema."""
    from gateway.resources import migrate_database  # noqa: PLC0415

    settings = _load(ctx)
    configure_logs(style=settings.log.format, level=settings.log.level)
    try:
        asyncio.run(migrate_database(settings))
    except DarkroomError as exc:
        _fail(exc)
    typer.echo("The database is at this version's schema.")


def _load(ctx: typer.Context) -> Settings:
    try:
        return load_settings(ctx.obj)
    except DarkroomError as exc:
        _fail(exc)


def _fail(exc: DarkroomError) -> NoReturn:
    cause = f" ({exc.__cause__})" if exc.__cause__ is not None and exc.code == "ledger_unavailable" else ""
    typer.echo(f"{exc.message}{cause}", err=True)
    raise typer.Exit(1)


def _uvicorn_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    server = settings.server
    return uvicorn.Config(
        app,
        host=server.host,
        port=server.port,
        http=OneWriteProtocol,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=server.keep_alive_s,
        proxy_headers=bool(server.trusted_proxies),
        forwarded_allow_ips=server.trusted_proxies,
    )


class _Server(uvicorn.Server):
    """Says hello once it listens; stops at a signal, and at a second one the process ends where it is.

    uvicorn raises a captured signal once more when it has stopped: that would end the process before open
    purchases have had their time.
    """

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            typer.echo("\n".join(_greeting(self._settings)))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)


def _greeting(settings: Settings) -> list[str]:
    """Where it is, and with the embedded default how to try it: the keys that were generated, a line to copy."""
    base = settings.server.base_url
    lines = [f"Darkroom is ready at {base}   (API description: {base}/docs)"]
    if settings.security.admin_key is None:
        lines.append(f"Admin key:  {_kept(settings, 'admin_key')}")
    test_key = _kept(settings, "test_key")
    if settings.database_url is None and test_key:
        curl = (
            f"curl -si {base}/v1/images/generations -H {shlex.quote(f'Authorization: Bearer {test_key}')} "
            f"-H 'Content-Type: application/json' -d {shlex.quote(_EXAMPLE)}"
        )
        lines += [
            f"Test key:   {test_key}",
            "Try it (a test key costs nothing; send it twice to see a hit):",
            f"  {curl}",
        ]
    return ["", *lines, ""]


def _kept(settings: Settings, name: str) -> str:
    file = settings.data_dir / name
    return file.read_text(encoding="ascii").strip() if file.exists() else ""
