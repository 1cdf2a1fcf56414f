"""The database of the settings."""

from __future__ import annotations

from gateway.config import Settings
from gateway.storage.database import Database, PostgresOptions, database_url, open_database


def open_configured_database(settings: Settings) -> Database:
    """Connects at the first use."""
    url = database_url(settings.database_url, settings.data_dir)
    return open_database(url, PostgresOptions(**settings.database.model_dump()))
