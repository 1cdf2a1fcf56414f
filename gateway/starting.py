"""What a disk or a database server does to a start, as a refusal that says where, and what would be right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, EIO, ENOSPC
from pathlib import Path

from gateway.config import Settings
from gateway.errors import ConfigurationError, LedgerUnavailable, reason_of

_NO_ROOM = frozenset({ENOSPC, EDQUOT, EFBIG})
_OF_DISKS = _NO_ROOM | {EIO}


@contextmanager
def failures_explained(settings: Settings) -> Iterator[None]:
    """Raises ConfigurationError in place of LedgerUnavailable and of an OSError about a file."""
    try:
        yield
    except LedgerUnavailable as exc:
        raise ConfigurationError(_of_database(settings, exc)) from exc
    except OSError as exc:
        if exc.filename is None and exc.errno not in _OF_DISKS:
            raise
        raise ConfigurationError(_of_file(settings, exc)) from exc


def _of_file(settings: Settings, exc: OSError) -> str:
    where = Path(exc.filename or settings.data_dir)
    remedy = ""
    if exc.errno in _NO_ROOM:
        remedy = "; make room on its disk"
    elif where.is_relative_to(settings.data_dir):
        remedy = f"; data_dir must be a folder that may be written, and is {settings.data_dir}"
    return f"{where} can't be used: {exc.strerror}{remedy}"


def _of_database(settings: Settings, exc: LedgerUnavailable) -> str:
    """Of the address only what is no secret."""
    from sqlalchemy.engine import make_url  # noqa: PLC0415  (heavy, and of use here alone)

    from gateway.storage.sqlite_file import is_damage  # noqa: PLC0415

    url = make_url(settings.database_url or f"sqlite:///{settings.data_dir / 'darkroom.db'}")
    if url.get_backend_name() == "sqlite":
        remedy = "is its disk full, or may it not be written?"
        if is_damage(exc):
            remedy = "move it away, and `darkroom restore` a backup (without one, a start makes an empty one)"
        return f"The database {url.database} can't be used: {reason_of(exc)}; {remedy}"
    place = f"{url.host or url.query.get('host', 'localhost')}:{url.port or 5432}"
    return f"PostgreSQL at {place} can't be used: {reason_of(exc)}; is it running there, and is database_url right?"
