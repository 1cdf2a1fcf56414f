"""Damage to a file of SQLite's."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def damage_table(file: Path, name: str) -> None:
    """Overwrites the first page of the table."""
    with closing(sqlite3.connect(file)) as conn:
        (size,) = conn.execute("PRAGMA page_size").fetchone()
        (page,) = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", [name]).fetchone()
    with file.open("r+b") as stream:
        stream.seek((page - 1) * size)
        stream.write(b"?" * size)
