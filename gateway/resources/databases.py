"""The database of the settings."""

from __future__ import annotations

from dataclasses import replace

from gateway.config import Settings
from gateway.storage.database import Database, PostgresOptions, database_url, open_database


def open_configured_database(settings: Settings, *, unhurried: bool = False) -> Database:
    """Connects at the first use. `unhurried`: for commands that look at whole tables, which may take any time."""
    url = database_url(settings.database_url, settings.data_dir)
    options = PostgresOptions(**settings.database.model_dump())
    if unhurried:
        options = replace(options, statement_timeout_s=None, idle_in_transaction_timeout_s=0)
    return open_database(url, options)
