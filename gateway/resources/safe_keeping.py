"""Backups, restores and the move to PostgreSQL, on the stores of the settings."""

from __future__ import annotations

import shutil
import tempfile
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from gateway.config import Settings
from gateway.config_sections import padded
from gateway.errors import ConfigurationError
from gateway.resources.databases import open_configured_database, unhurried_options
from gateway.resources.image_stores import open_image_store
from gateway.resources.journals import delivery
from gateway.services import backups, restoring
from gateway.services.backup_files import Manifest
from gateway.services.restoring import Restored, verify
from gateway.starting import failures_explained
from gateway.storage.data_dir import locked, make_data_dir
from gateway.storage.database import Database, database_url, open_database
from gateway.storage.image_spool import SpooledImageStore
from gateway.storage.journal import Journal
from gateway.storage.migrations import migrate
from gateway.storage.sealing import key_id
from gateway.storage.table_files import Tell
from gateway.telemetry.metrics import Metrics

__all__ = ["Manifest", "Restored", "Tell", "back_up", "move_to", "restore", "verify"]


class _KeyIds(NamedTuple):
    """Of what is configured, or was generated into data_dir."""

    secrets: Sequence[str]
    encryption_keys: Sequence[str]


async def back_up(settings: Settings, folder: Path, *, with_images: bool, tell: Tell) -> Manifest:
    """`darkroom backup`: may run beside the gateway. Raises ConfigurationError and StorageFailed."""
    images = SpooledImageStore(open_image_store(settings), settings.data_dir / "spool") if with_images else None
    with failures_explained(settings):
        async with _closing(open_configured_database(settings, unhurried=True)) as database:
            return await backups.back_up(database, folder, secrets=_key_ids(settings).secrets, tell=tell, images=images)


async def restore(settings: Settings, folder: Path, *, tell: Tell) -> Restored:
    """`darkroom restore`: into the configured stores, with no gateway running on them."""
    make_data_dir(settings.data_dir)
    ids = _key_ids(settings)
    with failures_explained(settings), locked(settings.data_dir):
        async with _closing(open_configured_database(settings, unhurried=True)) as database:
            return await restoring.restore(
                database,
                folder,
                images=open_image_store(settings),
                secrets=ids.secrets,
                encryption_keys=ids.encryption_keys,
                tell=tell,
            )


async def move_to(settings: Settings, address: str, *, tell: Tell) -> Restored:
    """`darkroom migrate --to`: the embedded database into an empty PostgreSQL. The source stays as it is.

    Raises ConfigurationError when a gateway is running on it, or the target is not one that can be used.
    """
    source_url = database_url(settings.database_url, settings.data_dir)
    target_url = database_url(address, settings.data_dir)
    if source_url.get_backend_name() != "sqlite" or target_url.get_backend_name() == "sqlite":
        raise ConfigurationError("migrate --to copies an embedded database (SQLite) to postgresql://...")
    _require_file(Path(source_url.database or ""))
    async with AsyncExitStack() as stack:
        with failures_explained(settings):
            stack.enter_context(locked(settings.data_dir))
            source = await stack.enter_async_context(_closing(open_database(source_url)))
            await migrate(source)
            await _deliver_journal(source, settings.data_dir / "journal")
        target = await stack.enter_async_context(_closing(open_database(target_url, unhurried_options(settings))))
        return await _copy(source, target, settings, tell)


def _require_file(database: Path) -> None:
    if not database.is_file():
        raise ConfigurationError(f"There is no embedded database at {database}.")


async def _copy(source: Database, target: Database, settings: Settings, tell: Tell) -> Restored:
    """By way of a backup, which is gone afterwards: one format, one way to check it."""
    ids = _key_ids(settings)
    with failures_explained(settings):
        aside = Path(tempfile.mkdtemp(prefix=".moving-", dir=settings.data_dir))
    try:
        await restoring.prepare(target)
        await backups.back_up(source, aside / "backup", secrets=ids.secrets, tell=tell)
        return await restoring.restore(
            target,
            aside / "backup",
            images=None,
            secrets=ids.secrets,
            encryption_keys=ids.encryption_keys,
            tell=tell,
        )
    finally:
        shutil.rmtree(aside, ignore_errors=True)


async def _deliver_journal(database: Database, folder: Path) -> None:
    """Rows that a killed gateway left on disk belong to what is copied."""
    journal = Journal(folder, delivery(database), lag=Metrics().journal_lag_rows)
    try:
        await journal.recover()
    finally:
        await journal.close()


@asynccontextmanager
async def _closing(database: Database) -> AsyncIterator[Database]:
    try:
        yield database
    finally:
        await database.close()


def _key_ids(settings: Settings) -> _KeyIds:
    """Nothing is generated here: a secret that is not there has no id."""
    security = settings.security
    secrets = [each.get_secret_value() for each in security.secrets] or _generated(settings, "secret")
    sealing = [each.get_secret_value() for each in security.encryption_keys] or _generated(settings, "encryption_key")
    return _KeyIds(
        [key_id(each.encode()) for each in secrets], [key_id(urlsafe_b64decode(padded(each))) for each in sealing]
    )


def _generated(settings: Settings, name: str) -> list[str]:
    found = settings.generated(name)
    return [] if found is None else [found]
