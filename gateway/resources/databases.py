"""The database of the settings."""

from __future__ import annotations

from dataclasses import replace

from gateway.config import Settings
from gateway.storage.database import Database, PostgresOptions, database_url, open_database


def open_configured_database(settings: Settings, *, unhurried: bool = False) -> Database:
    """Connects at the first use. `unhurried`: for commands that look at whole tables, which may take any time."""
    url = database_url(settings.database_url, settings.data_dir)
    return open_database(url, unhurried_options(settings) if unhurried else _options(settings))


def unhurried_options(settings: Settings) -> PostgresOptions:
    """Those of the settings, without a limit to how long a statement takes."""
    return replace(_options(settings), statement_timeout_s=None, idle_in_transaction_timeout_s=0)


def _options(settings: Settings) -> PostgresOptions:
    return PostgresOptions(**settings.database.model_dump())
