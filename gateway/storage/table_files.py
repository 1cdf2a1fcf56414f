"""Tables as files that either engine reads: a line of JSON a row, values in the order of the columns.

Values are as stored (JSON in text columns stays the text that it is); bytes are base64. Rows have no order in common
between engines, so what tells two tables apart is a digest that does not depend on one.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from gateway.errors import ConfigurationError
from gateway.storage.tables import metadata, replicas, schema_floor
from gateway.storage.tables_accounts import sessions

Kind = Literal["text", "integer", "boolean", "bytes"]
Tell = Callable[[str, int, int], None]
"""What is being worked on, and how much of how much is done."""

_TYPES: dict[Kind, Any] = {"text": sa.Text, "integer": sa.BigInteger, "boolean": sa.Boolean, "bytes": sa.LargeBinary}
_MONEY = ("micro_usd", "spent", "reserved")
_BATCH = 2000
_MODULUS = 2**128
_OF_FILES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Any]).decode


class Column(msgspec.Struct, frozen=True):
    name: str
    kind: Kind


class Figures(msgspec.Struct, frozen=True):
    """What a table comes to. `sums`: of its columns of money, in micro-dollars. `digest`: of all it holds."""

    rows: int
    sums: dict[str, int]
    digest: str


class TableFile(msgspec.Struct, frozen=True):
    """`sha256`: of the file `file`."""

    file: str
    sha256: str
    columns: list[Column]
    figures: Figures


class _Tally:
    """Counts rows as they go by, in any order."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._rows = 0
        self._digest = 0
        self._sums = {
            each.name: (place, 0)
            for place, each in enumerate(columns)
            if each.kind == "integer" and each.name.endswith(_MONEY)
        }

    def add(self, row: Sequence[Any], line: bytes) -> None:
        self._rows += 1
        self._digest += int.from_bytes(hashlib.blake2b(line, digest_size=16).digest())
        for name, (place, total) in self._sums.items():
            self._sums[name] = (place, total + (row[place] or 0))

    def figures(self) -> Figures:
        sums = {name: total for name, (_, total) in self._sums.items()}
        return Figures(self._rows, sums, f"{self._digest % _MODULUS:032x}")


def kept_tables() -> dict[str, list[Column]]:
    """The tables of this version, and the columns of each; not the schema's own, nor who runs or is signed in now."""
    return {
        str(table.name): [Column(str(column.name), _kind(column.type)) for column in table.columns]
        for table in metadata.sorted_tables
        if table not in {schema_floor, replicas, sessions}
    }


def _kind(stored: sa.types.TypeEngine[Any]) -> Kind:
    if isinstance(stored, sa.Boolean):
        return "boolean"
    if isinstance(stored, sa.LargeBinary):
        return "bytes"
    return "integer" if isinstance(stored, sa.Integer) else "text"


def dump(conn: sa.Connection, name: str, columns: Sequence[Column], folder: Path, tell: Tell) -> TableFile:
    """Write a table into NAME.jsonl.gz in the folder."""
    file = folder / f"{name}.jsonl.gz"
    total = conn.execute(sa.select(sa.func.count()).select_from(_table(name, columns))).scalar_one()
    tally = _Tally(columns)
    with writing_to(file), gzip.open(file, "wb", compresslevel=3) as stream:
        for done, row in enumerate(_rows(conn, name, columns), 1):
            line = _encode(row)
            tally.add(row, line)
            stream.write(line + b"\n")
            if done % _BATCH == 0:
                tell(name, done, total)
        tell(name, total, total)
    return TableFile(file.name, sha256_of(file), list(columns), tally.figures())


@contextmanager
def writing_to(file: Path) -> Iterator[None]:
    """A full disk is not the database's fault, which it would else be taken for."""
    try:
        yield
    except OSError as exc:
        if exc.errno not in _OF_FILES:
            raise
        raise ConfigurationError(f"{file} can't be written: {exc.strerror}") from exc


def measure(conn: sa.Connection, name: str, columns: Sequence[Column]) -> Figures:
    """What a table comes to now."""
    tally = _Tally(columns)
    for row in _rows(conn, name, columns):
        tally.add(row, _encode(row))
    return tally.figures()


def measure_file(made: TableFile, folder: Path) -> Figures:
    """What the rows of a file come to. Raises ConfigurationError when they can't be read."""
    tally = _Tally(made.columns)
    for line in _lines(made, folder):
        tally.add(_decode(line), line)
    return tally.figures()


def load(conn: sa.Connection, name: str, made: TableFile, folder: Path, tell: Tell) -> None:
    """Insert the rows of a file. Raises ConfigurationError when they are not what the table then holds."""
    lines = _lines(made, folder)
    insert = _insert if conn.dialect.name == "sqlite" else _copy
    done = 0
    while batch := [_as_stored(_decode(line), made.columns) for line in islice(lines, _BATCH)]:
        insert(conn, name, made.columns, batch)
        done += len(batch)
        tell(name, done, made.figures.rows)
    found = measure(conn, name, made.columns)
    if found != made.figures:
        raise ConfigurationError(f"{name} does not hold what was written to it: {found} and not {made.figures}.")


def _table(name: str, columns: Sequence[Column]) -> sa.TableClause:
    return sa.table(name, *(sa.column(each.name, _TYPES[each.kind]) for each in columns))


def _rows(conn: sa.Connection, name: str, columns: Sequence[Column]) -> Iterator[tuple[Any, ...]]:
    found = conn.execute(sa.select(_table(name, columns)), execution_options={"yield_per": _BATCH})
    for row in found:
        yield tuple(row)


def _lines(made: TableFile, folder: Path) -> Iterator[bytes]:
    try:
        with gzip.open(folder / made.file, "rb") as stream:
            for line in stream:
                yield line.rstrip(b"\n")
    except (OSError, EOFError) as exc:
        raise ConfigurationError(f"{folder / made.file} can't be read: {exc}") from exc


def _as_stored(row: list[Any], columns: Sequence[Column]) -> tuple[Any, ...]:
    return tuple(
        b64decode(value) if each.kind == "bytes" and value is not None else value
        for value, each in zip(row, columns, strict=True)
    )


def _insert(conn: sa.Connection, name: str, columns: Sequence[Column], rows: Sequence[tuple[Any, ...]]) -> None:
    names = [each.name for each in columns]
    conn.execute(sa.insert(_table(name, columns)), [dict(zip(names, row, strict=True)) for row in rows])


def _copy(conn: sa.Connection, name: str, columns: Sequence[Column], rows: Sequence[tuple[Any, ...]]) -> None:
    """COPY is ten times as fast as INSERT; SQLAlchemy has no words for it."""
    import asyncpg  # noqa: PLC0415  (a driver of one engine)

    connection: Any = conn.connection.dbapi_connection
    names = [each.name for each in columns]
    conn.exec_driver_sql("SELECT 1")  # SQLAlchemy says BEGIN with the first statement that it knows of
    try:
        connection.run_async(lambda raw: raw.copy_records_to_table(name, records=rows, columns=names))
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        raise ConfigurationError(f"PostgreSQL does not take the rows of {name}: {exc}") from exc


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
