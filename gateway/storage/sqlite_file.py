"""What becomes of SQLite's file while it is in use.

A file that was removed or replaced is gone until it is put back: SQLite would go on writing to what nobody can open
again. One that has shown damage stays in use for what it still does, but nothing new is begun.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ESTALE
from pathlib import Path

from gateway.errors import LedgerUnavailable, root_cause

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_damage(exc: BaseException) -> bool:
    """Whether SQLite says that its file is broken, or none of its own."""
    code = getattr(root_cause(exc), "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGED  # the lowest byte says what, the others where


class SqliteFile:
    def __init__(self, path: str | None) -> None:
        self._path = Path(path or "")
        self._opened: os.stat_result | None = None
        self.damage: LedgerUnavailable | None = None
        """The first refusal that came of damage."""

    def note_opened(self) -> None:
        self._opened = self._opened or self._found()

    def require_same(self) -> None:
        """Raises OSError unless the file is the one that was opened first."""
        if self._opened is None:
            return
        found = self._found()
        if found is None or not os.path.samestat(found, self._opened):
            what = "was removed" if found is None else "was replaced"
            raise OSError(ESTALE, f"{what} while the gateway uses it; put it back, or restart", str(self._path))

    @contextmanager
    def noting_damage(self) -> Iterator[None]:
        try:
            yield
        except LedgerUnavailable as exc:
            if self.damage is None and is_damage(exc):
                self.damage = exc
            raise

    def _found(self) -> os.stat_result | None:
        try:
            return self._path.stat()
        except FileNotFoundError:
            return None
