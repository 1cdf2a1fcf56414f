"""The months of the usage log on PostgreSQL, each a table of its own: old ones go as a whole, and at once.

The first one holds all before the month in which the log was divided, a default one whatever no month is there for, so
that no row is ever refused. SQLite's log is one table: there is nothing to do for it.

Locks: a month is made beside the log and attached, which holds up neither readers nor writers of others. Dropping one
needs the log alone for an instant; what can't have it within 2 s raises LedgerUnavailable, and is tried again.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

import sqlalchemy as sa

from gateway.storage.database import now_ms

MONTHS_AHEAD = 3
DEFAULT = "usage_log_default"
_NAME = re.compile(r"usage_log_(before|default|\d{4}_\d\d)")
_RANGE = re.compile(r"FROM \((?:MINVALUE|'(-?\d+)')\) TO \('(-?\d+)'\)")
_PATIENCE_MS = 2000
_TURN = 0x6461726B01  # of the advisory lock: one process at a time divides the log
_PARTITIONS = """
    SELECT child.relname, pg_get_expr(child.relpartbound, child.oid)
    FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
    WHERE inhparent = to_regclass('usage_log') AND child.relispartition
"""


@dataclass(frozen=True, slots=True)
class Partition:
    """The rows from `from_ms` (None: the first ones) to before `to_ms`."""

    name: str
    from_ms: int | None
    to_ms: int

    def covers(self, at_ms: int) -> bool:
        return (self.from_ms is None or self.from_ms <= at_ms) and at_ms < self.to_ms


def is_partition(name: str) -> bool:
    """Whether a table of this name is a part of the usage log, which no migration describes."""
    return _NAME.fullmatch(name) is not None


def partitions(conn: sa.Connection) -> list[Partition]:
    """All but the default one, oldest first. None on SQLite."""
    if conn.dialect.name == "sqlite":
        return []
    found = [(name, _RANGE.search(bound)) for name, bound in conn.exec_driver_sql(_PARTITIONS)]
    made = [
        Partition(name, None if match[1] is None else int(match[1]), int(match[2]))
        for name, match in found
        if match is not None
    ]
    return sorted(made, key=lambda each: each.to_ms)


def make_ahead(conn: sa.Connection, *, months: int = MONTHS_AHEAD) -> list[str]:
    """Make this month and the next ones where they are missing. Returns the names of those made."""
    if conn.dialect.name == "sqlite" or not _missing(conn, months):
        return []
    _take_turn(conn)
    return [_make(conn, start_ms) for start_ms in _missing(conn, months)]


def drop_before(conn: sa.Connection, before_ms: int) -> list[str]:
    """Drop the partitions whose every row is older than that. Returns their names."""
    if not _older(conn, before_ms):
        return []
    _take_turn(conn)
    old = _older(conn, before_ms)
    for name in old:
        conn.exec_driver_sql(f"ALTER TABLE usage_log DETACH PARTITION {name}")
        conn.exec_driver_sql(f"DROP TABLE {name}")
    return old


def faults(conn: sa.Connection) -> list[str]:
    """What an administrator should know: months that are missing ahead, rows that no month is there for."""
    if conn.dialect.name == "sqlite":
        return []
    said = [f"{_name(start_ms)} is missing" for start_ms in _missing(conn, 1)]
    stray = conn.exec_driver_sql(f"SELECT count(*), min(at_ms), max(at_ms) FROM {DEFAULT}").one()  # noqa: S608
    if stray[0]:
        said.append(f"{stray[0]} rows from {_day(stray[1])} to {_day(stray[2])} have no month")
    return said


def next_month_ms(at_ms: int) -> int:
    """Start of the month (UTC) after the one that this moment is in."""
    at = _utc(at_ms)
    return round(dt.datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=dt.UTC).timestamp() * 1000)


def _missing(conn: sa.Connection, months: int) -> list[int]:
    """Starts of those of this month and the next ones that no partition covers."""
    at = _utc(now_ms(conn))
    starts = [round(dt.datetime(at.year, at.month, 1, tzinfo=dt.UTC).timestamp() * 1000)]
    for _ in range(months):
        starts.append(next_month_ms(starts[-1]))
    there = partitions(conn)
    return [start_ms for start_ms in starts if not any(each.covers(start_ms) for each in there)]


def _older(conn: sa.Connection, before_ms: int) -> list[str]:
    return [each.name for each in partitions(conn) if each.to_ms <= before_ms]


def _take_turn(conn: sa.Connection) -> None:
    conn.exec_driver_sql(f"SET LOCAL lock_timeout = {_PATIENCE_MS}")
    conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TURN})")


def _make(conn: sa.Connection, start_ms: int) -> str:
    """A month, with what of it went into the default partition because nobody had made it in time.

    CREATE TABLE ... PARTITION OF would need the log alone; ATTACH only the default one, which is empty as a rule.
    """
    name, end_ms = _name(start_ms), next_month_ms(start_ms)
    conn.exec_driver_sql(f"CREATE TABLE {name} (LIKE usage_log INCLUDING ALL)")
    conn.exec_driver_sql(f"LOCK TABLE {DEFAULT} IN ACCESS EXCLUSIVE MODE")
    moved = f"DELETE FROM {DEFAULT} WHERE at_ms >= {start_ms} AND at_ms < {end_ms} RETURNING *"  # noqa: S608
    conn.exec_driver_sql(f"WITH moved AS ({moved}) INSERT INTO {name} SELECT * FROM moved")  # noqa: S608
    conn.exec_driver_sql(
        f"ALTER TABLE usage_log ATTACH PARTITION {name} FOR VALUES FROM ('{start_ms}') TO ('{end_ms}')"
    )
    return name


def _name(start_ms: int) -> str:
    return f"usage_log_{_utc(start_ms):%Y_%m}"


def _day(at_ms: int) -> str:
    return f"{_utc(at_ms):%Y-%m-%d}"


def _utc(at_ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC)
