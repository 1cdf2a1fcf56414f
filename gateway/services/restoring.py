"""Putting a backup back, and looking whether it can be."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from gateway.errors import ConfigurationError, LedgerUnavailable, reason_of
from gateway.services.backup_files import IMAGE_FOLDER, Manifest, faults_of, read_manifest
from gateway.services.backups import copy_images, each_listed
from gateway.storage.database import Database
from gateway.storage.images import ImageStore, LocalImageStore
from gateway.storage.migrations import current_revision, migrate, revisions
from gateway.storage.table_files import Tell, kept_tables, load

_FIRST = 3


class Restored(NamedTuple):
    """`warnings`: what is still missing before the gateway is of use, and where to get it."""

    manifest: Manifest
    warnings: Sequence[str]


def verify(folder: Path) -> Manifest:
    """Look at every byte of a backup. Raises ConfigurationError with all that is wrong."""
    manifest = read_manifest(folder)
    if faults := faults_of(folder, manifest):
        raise ConfigurationError("\n".join([f"The backup in {folder} is damaged:", *faults]))
    return manifest


async def restore(
    database: Database,
    folder: Path,
    *,
    images: ImageStore | None,
    secrets: Collection[str],
    encryption_keys: Collection[str],
    tell: Tell,
) -> Restored:
    """Put a backup's bytes into the image store, and then its rows into an empty database, in one transaction: what
    fails on the way can be tried again.

    `images` None: pictures stay where they are. `secrets`, `encryption_keys`: ids of what is configured. Raises
    ConfigurationError when the backup is damaged, the target is not empty or can't be reached, or a schema is newer;
    StorageFailed when the image store takes no bytes.
    """
    manifest = verify(folder)
    await prepare(database, manifest.revision)
    warnings = _lacking(manifest, secrets, encryption_keys)
    if images is not None:
        warnings += await _put_images(images, folder, manifest, tell)
    await database.write(lambda conn: _load_all(conn, manifest, folder, tell))
    await migrate(database)
    return Restored(manifest, warnings)


async def _put_images(images: ImageStore, folder: Path, manifest: Manifest, tell: Tell) -> list[str]:
    if manifest.images.with_bytes:
        await copy_images(LocalImageStore(folder / IMAGE_FOLDER), images, folder, manifest.images.count, tell)
    return await _without_bytes(images, folder, manifest.images.count, tell)


async def prepare(database: Database, revision: str | None = None) -> None:
    """An empty database gets the schema that the backup has; None: this version's.

    Raises ConfigurationError when it can't be reached, is not empty, or a schema is newer.
    """
    revision = revision or revisions()[-1]
    place = database.url.set(drivername=database.url.get_backend_name()).render_as_string(hide_password=True)
    if revision not in revisions():
        raise ConfigurationError(
            f"The backup has schema {revision}, which this version does not know: use a newer one."
        )
    try:
        current = await current_revision(database)
    except LedgerUnavailable as exc:
        raise ConfigurationError(f"{place} can't be reached: {reason_of(exc)}") from exc
    if current is not None and current not in revisions():
        raise ConfigurationError(f"{place} has schema {current}, which this version does not know: use a newer one.")
    if filled := await database.read(_filled):
        raise ConfigurationError(f"{place} is not empty (it has {', '.join(filled[:_FIRST])}): name an empty database.")
    if current is None or revisions().index(current) < revisions().index(revision):
        await migrate(database, to=revision)


def _filled(conn: sa.Connection) -> list[str]:
    """Tables of ours with rows in them, and those that are not ours."""
    found = sa.inspect(conn)
    if not found.has_table("alembic_version"):
        return sorted(found.get_table_names())
    there = set(found.get_table_names())
    return [
        name
        for name in kept_tables()
        if name in there and conn.execute(sa.select(sa.literal(1)).select_from(sa.table(name)).limit(1)).first()
    ]


def _load_all(conn: sa.Connection, manifest: Manifest, folder: Path, tell: Tell) -> None:
    if filled := _filled(conn):  # somebody came in between
        raise ConfigurationError(f"The database is not empty any more (it has {', '.join(filled[:_FIRST])}).")
    for name, made in manifest.tables.items():
        load(conn, name, made, folder, tell)
    if conn.dialect.name != "sqlite":
        conn.exec_driver_sql("SELECT setval(pg_get_serial_sequence('changes', 'id'), max(id)) FROM changes")
        conn.exec_driver_sql("ANALYZE")


def _lacking(manifest: Manifest, secrets: Collection[str], encryption_keys: Collection[str]) -> list[str]:
    for_callers = [each for each in manifest.secrets if each not in secrets]
    for_providers = [each for each in manifest.encryption_keys if each not in encryption_keys]
    said = []
    if for_callers:
        said.append(
            f"security.secrets lacks {', '.join(for_callers)}: the keys of callers do not work until it is there "
            "(or, with SQLite, the file `secret` in data_dir). Put it there before the first start."
        )
    if for_providers:
        said.append(
            f"security.encryption_keys lacks {', '.join(for_providers)}: stored provider keys can't be opened until it "
            "is there (or, with SQLite, the file `encryption_key` in data_dir). Put it there before the first start."
        )
    return said


async def _without_bytes(images: ImageStore, folder: Path, total: int, tell: Tell) -> list[str]:
    """A warning when pictures have no bytes in the image store."""
    gone: list[str] = []

    async def look(sha256: str) -> None:
        if not await images.contains(sha256):
            gone.append(sha256)

    await each_listed(look, folder, total, tell)
    if not gone:
        return []
    shown = ", ".join(sorted(gone)[:_FIRST])
    return [
        f"{len(gone)} pictures have no bytes in {images.place} ({shown} ...): put them there, or hits on them fail."
    ]
