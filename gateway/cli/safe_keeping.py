"""`migrate`, `backup`, `restore`: the database, kept safe. They work on this machine, not over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gateway.cli.output import console
from gateway.cli.settings import fail_with, load
from gateway.config import Settings
from gateway.errors import DarkroomError
from gateway.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from gateway.resources.safe_keeping import Manifest, Tell

T = TypeVar("T")
_INCOMPLETE = 2


def register(app: typer.Typer) -> None:
    app.command()(migrate)
    app.command()(backup)
    app.command()(restore)


def migrate(
    ctx: typer.Context,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="URL", help="Copy the embedded database into this empty PostgreSQL."),
    ] = None,
) -> None:
    """Bring the database to this version's schema, or (--to) move from SQLite to PostgreSQL.

    Replicas may serve while their database is migrated. --to needs the gateway stopped; the SQLite file stays as it is.
    """
    settings = _settings(ctx)
    if to is None:
        from gateway.resources import migrate_database  # noqa: PLC0415  (heavy: not for every command)

        _run(migrate_database(settings))
        typer.echo("The database is at this version's schema.")
        return
    from gateway.resources import safe_keeping  # noqa: PLC0415

    with _progress() as tell:
        moved = _run(safe_keeping.move_to(settings, to, tell=tell))
    typer.echo("\n".join(["Copied and compared, row by row:", *_figures(moved.manifest), *_next_steps(settings)]))


def backup(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet.")],
    *,
    images: Annotated[bool, typer.Option("--images", help="Keep the bytes of the pictures too.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Make none: look at every byte of the one there.")] = False,
) -> None:
    """Back up the database, of a gateway that may go on serving. Exit status 2 when bytes of pictures were missing."""
    from gateway.resources import safe_keeping  # noqa: PLC0415

    if verify:
        made = _checked(folder)
        typer.echo("\n".join([f"The backup in {folder} is whole, as of {made.created_at}:", *_figures(made)]))
        return
    with _progress() as tell:
        made = _run(safe_keeping.back_up(_settings(ctx), folder, with_images=images, tell=tell))
    typer.echo("\n".join([f"Backed up into {folder}, as of {made.created_at}:", *_figures(made)]))
    lost = made.images.lost
    _warn([f"{len(lost)} pictures had no bytes, or other ones: {', '.join(lost[:3])}"] if lost else [])


def restore(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `darkroom backup` made.")],
) -> None:
    """Put a backup into the configured database, which must be empty, and its pictures into the image store.

    Exit status 2 when it is done but something is missing: secrets that the rows need, bytes of pictures.
    """
    from gateway.resources import safe_keeping  # noqa: PLC0415

    with _progress() as tell:
        restored = _run(safe_keeping.restore(_settings(ctx), folder, tell=tell))
    made = restored.manifest
    typer.echo("\n".join([f"Restored and compared, as of {made.created_at}:", *_figures(made)]))
    _warn(restored.warnings)


def _settings(ctx: typer.Context) -> Settings:
    settings = load(ctx)
    configure_logs(style=settings.log.format, level=settings.log.level)
    return settings


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except DarkroomError as exc:
        fail_with(exc)


def _checked(folder: Path) -> Manifest:
    from gateway.resources import safe_keeping  # noqa: PLC0415

    try:
        return safe_keeping.verify(folder)
    except DarkroomError as exc:
        fail_with(exc)


@contextmanager
def _progress() -> Iterator[Tell]:
    """A bar for each table on a terminal; else a line for each that is done."""
    from rich.progress import (  # noqa: PLC0415  (heavy: not for every command)
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
    )

    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda name, done, total: typer.echo(f"{name}: {total:,}", err=True) if done == total > 0 else None
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=screen) as bars:
        tasks: dict[str, Any] = {}

        def tell(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=done, total=total)

        yield tell


def _figures(made: Manifest) -> list[str]:
    """What it comes to, for people: rows of each table, and money."""
    lines = []
    for name, table in made.tables.items():
        money = ", ".join(f"{column} {total:,}" for column, total in table.figures.sums.items() if total)
        if table.figures.rows:
            lines.append(f"  {name:<18}{table.figures.rows:>12,}" + (f"   {money}" if money else ""))
    size = f"{made.images.size_bytes / 1e6:,.1f} MB"
    kept = f"{size} with their bytes" if made.images.with_bytes else f"{size}, which are not in it"
    return [*lines, f"  {'pictures':<18}{made.images.count:>12,}   {kept}"]


def _next_steps(settings: Settings) -> list[str]:
    """What an embedded gateway made for itself and PostgreSQL's must be told."""
    folder = settings.data_dir.resolve()
    store = settings.image_store
    pictures = "in the bucket" if store.bucket else f"in {(store.path or folder / 'images').resolve()}"
    lines = ["", "To serve from it, put into config.yaml:", "  database_url: postgresql://...    # as given to --to"]
    if not settings.security.secrets or not settings.security.encryption_keys:
        lines.append("  security:")
    if not settings.security.secrets:
        lines.append(f'    secrets: ["${{file:{folder / "secret"}}}"]')
    if not settings.security.encryption_keys and (folder / "encryption_key").is_file():
        lines.append(f'    encryption_keys: ["${{file:{folder / "encryption_key"}}}"]')
    lines.append(f"Pictures stay where they are, {pictures}; other machines must reach them there (image_store).")
    if settings.security.admin_key is None:
        lines.append(f"The admin key stays in {folder / 'admin_key'}; replicas need it as security.admin_key.")
    return lines


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        typer.echo(f"Warning: {warning}", err=True)
    if warnings:
        raise typer.Exit(_INCOMPLETE)
