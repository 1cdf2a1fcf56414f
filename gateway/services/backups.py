"""Making a backup while the gateway serves.

The database comes first, as one snapshot of it, then the bytes of the pictures that the snapshot shows. That order is
the right one because bytes are stored before their row, so whatever the snapshot shows was there; and what is removed
after it keeps its bytes for an hour. A copy that takes longer than that may find some gone: it says which.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import sqlalchemy as sa

from gateway import __version__
from gateway.errors import ConfigurationError
from gateway.services.backup_files import (
    FORMAT,
    IMAGE_FOLDER,
    IMAGE_LIST,
    ImageList,
    ListedImage,
    Manifest,
    holds,
    listed_images,
    write_manifest,
)
from gateway.storage.database import Database
from gateway.storage.images import ImageStore, LocalImageStore
from gateway.storage.migrations import current_revision, revisions
from gateway.storage.sealing import sealed_by
from gateway.storage.table_files import Tell, dump, kept_tables, sha256_of, writing_to
from gateway.storage.tables import images as images_table
from gateway.storage.tables_accounts import provider_keys, webhooks

_AT_ONCE = 16


async def back_up(
    database: Database,
    folder: Path,
    *,
    secrets: Sequence[str],
    tell: Tell,
    images: ImageStore | None = None,
) -> Manifest:
    """Write a backup into the folder, which appears whole or not at all. `images`: keep their bytes too.

    `secrets`: ids of the configured ones. Raises ConfigurationError when the folder is there, or the schema is not
    this version's; StorageFailed and LedgerUnavailable.
    """
    aside, folder = _make_aside(folder)
    try:
        if await current_revision(database) != revisions()[-1]:
            raise ConfigurationError("The database is not at this version's schema: run `darkroom migrate` first.")
        manifest = await database.read(lambda conn: _write_tables(conn, aside, secrets, tell))
        if images is not None:
            lost = await copy_images(images, LocalImageStore(aside / IMAGE_FOLDER), aside, manifest.images.count, tell)
            kept = msgspec.structs.replace(manifest.images, with_bytes=True, lost=lost)
            manifest = msgspec.structs.replace(manifest, images=kept)
        write_manifest(aside, manifest)
        aside.replace(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return manifest


def _make_aside(folder: Path) -> tuple[Path, Path]:
    """Where a backup is written before it gets its name, and that name, wherever links lead.

    Only its owner can read it: it has prompts in it.
    """
    folder = folder.resolve()
    if folder.is_mount():  # nothing can take its place
        raise ConfigurationError(f"{folder} is a file system of its own; name a folder in it.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} is there already; name a folder that is not, or an empty one.")
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True, mode=0o700)
    except OSError as exc:
        raise ConfigurationError(f"{folder} can't be made: {exc.strerror}") from exc
    return aside, folder


def _write_tables(conn: sa.Connection, folder: Path, secrets: Sequence[str], tell: Tell) -> Manifest:
    """All as of one moment: on SQLite any transaction that reads is that."""
    if conn.dialect.name != "sqlite":
        conn.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    tables = {name: dump(conn, name, columns, folder, tell) for name, columns in kept_tables().items()}
    sealed = conn.execute(
        sa.select(provider_keys.c.secret)
        .where(provider_keys.c.secret.is_not(None))
        .union(sa.select(webhooks.c.secret).where(webhooks.c.secret != ""))
    ).scalars()
    return Manifest(
        format=FORMAT,
        darkroom=__version__,
        created_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        engine=conn.dialect.name,
        revision=revisions()[-1],
        tables=tables,
        images=_list_images(conn, folder / IMAGE_LIST),
        secrets=list(secrets),
        encryption_keys=sorted({sealed_by(secret) for secret in sealed}),
    )


def _list_images(conn: sa.Connection, file: Path) -> ImageList:
    c = images_table.c
    living = sa.select(c.id, c.sha256, c.size_bytes).where(c.removed_ms.is_(None))
    count = size_bytes = 0
    with writing_to(file), gzip.open(file, "wb", compresslevel=3) as stream:
        for row in conn.execute(living, execution_options={"yield_per": 2000}):
            stream.write(msgspec.json.encode(ListedImage(*row)) + b"\n")
            count += 1
            size_bytes += row.size_bytes
    return ImageList(count, size_bytes, sha256_of(file))


async def copy_images(source: ImageStore, target: ImageStore, folder: Path, total: int, tell: Tell) -> list[str]:
    """Copy the bytes of the pictures listed in the folder.

    Returns the SHA-256 of those that are not there, or are not what they were.
    """
    lost: list[str] = []

    async def copy(sha256: str) -> None:
        data = await source.get(sha256)
        if data is None or not holds(data, sha256):
            lost.append(sha256)
        else:
            await target.put(sha256, data)

    await each_listed(copy, folder, total, tell)
    return sorted(lost)


async def each_listed(work: Callable[[str], Awaitable[None]], folder: Path, total: int, tell: Tell) -> None:
    """Do it for each SHA-256 on the list of pictures once, a few at a time."""
    seen: set[str] = set()
    waiting: list[str] = []
    for done, image in enumerate(listed_images(folder), 1):
        if image.sha256 not in seen:
            seen.add(image.sha256)
            waiting.append(image.sha256)
        if len(waiting) == _AT_ONCE or done == total:
            await asyncio.gather(*map(work, waiting))
            waiting.clear()
            tell("pictures", done, total)
