"""The engines that replicas share, started for a measurement: PostgreSQL and Valkey, and the replicas on them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL

from benchmarks.servers import Gateway
from tests.support.postgres import running_postgres
from tests.support.valkey import running_valkey


@dataclass(frozen=True)
class Engines:
    """`settings`: as they stand in a replica's configuration."""

    folder: Path
    database: URL
    settings: str

    def replica(self, number: int, provider_url: str, *, max_concurrency: int = 64) -> Gateway:
        folder = self.folder / f"replica-{number}"
        return Gateway(folder, provider_url, max_concurrency=max_concurrency, engines=self.settings)


@contextmanager
def running_engines(folder: Path) -> Iterator[Engines]:
    """PostgreSQL's commits wait for the disk, as in production; Valkey keeps nothing there."""
    with running_postgres(syncs=True) as postgres, running_valkey() as valkey:
        database = postgres.create_database()
        settings = (
            f"database_url: {database.render_as_string()}\n"
            f"redis_url: {valkey.url()}\n"
            f"image_store: {{kind: local, path: {folder / 'images'}}}\n"
        )
        engines = Engines(folder, database, settings)
        config = engines.replica(0, "http://127.0.0.1:1").config
        migrate = [sys.executable, "-m", "gateway", "--config", str(config), "migrate"]
        subprocess.run(migrate, check=True, capture_output=True)
        yield engines
