"""`serve`, `check-config`: commands that work on this machine, not over HTTP."""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
import uvloop

from gateway.cli.settings import fail_with, load
from gateway.config import Settings
from gateway.config_sections import AimlapiSettings
from gateway.errors import DarkroomError
from gateway.listening import listen_for_callers, listen_for_management
from gateway.telemetry.logs import configure_logs
from gateway.workers import Workers

if TYPE_CHECKING:
    from gateway.resources import Resources

_ADMIN, _TEST = "admin_key", "test_key"
_EXAMPLE = '{"model": "flux-pro", "prompt": "A lighthouse at dawn", "seed": 42}'


def register(app: typer.Typer) -> None:
    app.command()(serve)
    app.command("check-config")(check_config)


def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on (server.host).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (server.port).")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes (server.workers); more than 1 need PostgreSQL and Redis.")
    ] = None,
    worker: Annotated[int | None, typer.Option(hidden=True, help="Which of several processes this one is.")] = None,
    listener: Annotated[int | None, typer.Option(hidden=True, help="The socket that they share.")] = None,
    management_listener: Annotated[int | None, typer.Option(hidden=True, help="The same for management.")] = None,
    watcher: Annotated[int | None, typer.Option(hidden=True, help="The line to who watches over them.")] = None,
) -> None:
    """Run the gateway. An embedded database is migrated first, after a snapshot."""
    for name, value in (("HOST", host), ("PORT", port), ("WORKERS", workers)):
        if value is not None:
            os.environ[f"DARKROOM__SERVER__{name}"] = str(value)
    settings = load(ctx)
    configure_logs(style=settings.log.format, level=settings.log.level)
    unshown = _not_to_be_shown(settings)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if worker is not None and listener is not None and watcher is not None:
                runner.run(_serve(settings, unshown, Place(worker, listener, management_listener, watcher)))
            elif settings.server.workers > 1:
                raise typer.Exit(runner.run(Workers(settings, ctx.obj).run(lambda: _greet(settings, unshown))))
            else:
                runner.run(_serve(settings, unshown))
    except DarkroomError as exc:
        fail_with(exc)


class Place(NamedTuple):
    """Of one of several processes: its number, and the descriptors that it was given."""

    worker: int
    listener: int
    management_listener: int | None
    watcher: int


async def _serve(settings: Settings, unshown: Collection[str], place: Place | None = None) -> None:
    """Open, serve until a signal, close. Raises DarkroomError when something can't be opened."""
    from gateway.api.serving import GatewayServer, server_config  # noqa: PLC0415  (heavy: not for every command)
    from gateway.app import create_app  # noqa: PLC0415
    from gateway.resources import open_resources  # noqa: PLC0415

    def started() -> None:
        _collect_garbage()
        if place is None:
            _greet(settings, unshown)
        else:
            _tell(socket.socket(fileno=place.watcher))

    if place is None:
        listen_for_callers(settings.server).close()  # said before anything is opened; uvicorn would only log it
    async with open_resources(settings, worker=None if place is None else place.worker) as resources:
        config = server_config(create_app(settings, resources=resources), settings, resources)
        sockets = None if place is None else [socket.socket(fileno=place.listener)]
        async with _managed(settings, resources, place):
            await GatewayServer(config, resources, on_start=started).serve(sockets)


@asynccontextmanager
async def _managed(settings: Settings, resources: Resources, place: Place | None) -> AsyncIterator[None]:
    """With the management port answering, where there is one. Raises ConfigurationError when it can't be had."""
    from gateway.api.serving import management_served  # noqa: PLC0415  (heavy: not for every command)
    from gateway.app import create_management_app  # noqa: PLC0415

    if place is None:
        listener = listen_for_management(settings.management)
    else:
        shared = place.management_listener
        listener = None if shared is None else socket.socket(fileno=shared)
    if listener is None:
        yield
        return
    async with management_served(create_management_app(settings, resources=resources), settings, listener):
        yield


def check_config(ctx: typer.Context) -> None:
    """Load the settings as `serve` does, and say what they come to. Exit 1 with every mistake."""
    from gateway.resources import served_models  # noqa: PLC0415  (heavy: not for every command)

    settings = load(ctx)
    try:
        models = served_models(settings)
    except DarkroomError as exc:
        fail_with(exc)
    typer.echo(
        f"Listens on {settings.server.host}:{settings.server.port}, images at {settings.server.base_url}/images/"
    )
    if settings.management.port is not None:
        typer.echo(f"Metrics and administration on {settings.management.host}:{settings.management.port} only")
    typer.echo(
        f"Data in {settings.data_dir}, database: {'SQLite there' if settings.database_url is None else 'configured'}"
    )
    for model in models.values():
        typer.echo(f"Serves {model.name} (version {model.version}) by {model.provider}")
    for provider in settings.providers:
        if isinstance(provider, AimlapiSettings) and not provider.api_keys:
            typer.echo(
                f"{provider.name} has no key here, so live calls get 503 unless one is stored: set AIMLAPI_API_KEY or "
                "providers[].api_keys, or see `darkroom provider-key list` and `create`"
            )
    typer.echo("The configuration is valid.")


def _tell(watcher: socket.socket) -> None:
    """That this worker is ready; and leave when the one who watches over it is gone."""
    watcher.send(b"!")

    def hear() -> None:
        asyncio.get_running_loop().remove_reader(watcher)
        os.kill(os.getpid(), signal.SIGTERM)

    asyncio.get_running_loop().add_reader(watcher, hear)


def _collect_garbage() -> None:
    gc.freeze()  # what is there by now stays: no later look for garbage need walk through it
    gc.enable()


def _not_to_be_shown(settings: Settings) -> Collection[str]:
    """Names of the keys that are not to be shown again: generated by an earlier start, and nobody looks at a terminal.

    What a service prints is kept in its logs.
    """
    return () if sys.stdout.isatty() else [name for name in (_ADMIN, _TEST) if settings.generated(name)]


def _greet(settings: Settings, unshown: Collection[str]) -> None:
    typer.echo("\n".join(_greeting(settings, unshown)))


def _greeting(settings: Settings, unshown: Collection[str]) -> list[str]:
    """Where it is, and with the embedded default how to try it: the keys that were generated, a line to copy."""
    base = settings.server.base_url
    lines = [f"Darkroom is ready at {base}   (API description: {base}/docs)"]
    managed = settings.management.port is not None
    if managed:
        lines.append(f"Management: {settings.management.base_url}")
    if settings.console.enabled:
        place = settings.management.base_url if managed else base
        lines.append(f"Console:    {place}/console   (sign in with the admin key)")
    if settings.security.admin_key is None:
        lines.append(f"Admin key:  {_shown(settings, _ADMIN, unshown)}")
    test_key = settings.generated(_TEST)
    if settings.database_url is None and test_key:
        bearer = shlex.quote(f"Authorization: Bearer {test_key}")
        if _TEST in unshown:
            bearer = f'"Authorization: Bearer $(cat {shlex.quote(str(settings.data_dir / _TEST))})"'
        curl = (
            f"curl -si {base}/v1/images/generations -H {bearer} "
            f"-H 'Content-Type: application/json' -d {shlex.quote(_EXAMPLE)}"
        )
        lines += [
            f"Test key:   {_shown(settings, _TEST, unshown)}",
            "Try it (a test key costs nothing; send it twice to see a hit):",
            f"  {curl}",
        ]
    return ["", *lines, ""]


def _shown(settings: Settings, name: str, unshown: Collection[str]) -> str:
    return f"in {settings.data_dir / name}" if name in unshown else settings.generated(name) or ""
