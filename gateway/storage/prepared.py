"""Statements of SQLAlchemy Core that SQLite's driver runs by itself.

A purchase is some thirty small statements. SQLAlchemy takes 60 to 120 µs around each, in which SQLite works for 5: its
caches, cursors and rows are made for statements that vary. These do not, so each is compiled once, and what is left
are its parameters. On PostgreSQL, where a statement is a round trip anyway, SQLAlchemy runs them.

What the driver raises comes as SQLAlchemy's own exceptions, which `gateway.storage.database` knows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

Parameters = Mapping[str, Any]
Row = dict[str, Any]
_Values = Callable[[Parameters], list[Any]]
_Processor = Callable[[Any], Any] | None


class Prepared:
    """One statement for good. Its parameters are those of `Connection.execute`: binds and columns by name."""

    def __init__(self, statement: sa.Executable | Callable[[str], Any]) -> None:
        """`statement`: for both engines, or what makes it for a dialect's name."""
        self._statement = statement
        self._made: dict[str, Any] = {}
        self._compiled: dict[tuple[str, ...], _Compiled] = {}

    def run(self, conn: sa.Connection, parameters: Parameters) -> int:
        """Returns how many rows it changed."""
        if conn.dialect.name != "sqlite":
            return conn.execute(self._for(conn), parameters).rowcount
        return self._cursor(conn, parameters).rowcount

    def run_each(self, conn: sa.Connection, parameters: Sequence[Parameters]) -> None:
        """Once for each, all with the same names."""
        if not parameters:
            return
        if conn.dialect.name != "sqlite":
            conn.execute(self._for(conn), parameters)
            return
        compiled = self._compile(conn, parameters[0])
        compiled.execute_each(driver_of(conn), map(compiled.values, parameters))

    def rows(self, conn: sa.Connection, parameters: Parameters) -> list[Row]:
        """What it selects, or returns, by the names of the columns."""
        if conn.dialect.name != "sqlite":
            return [dict(row) for row in conn.execute(self._for(conn), parameters).mappings()]
        compiled = self._compile(conn, parameters)
        return [compiled.row(values) for values in self._cursor(conn, parameters)]

    def row(self, conn: sa.Connection, parameters: Parameters) -> Row | None:
        """The only row there can be."""
        found = self.rows(conn, parameters)
        return found[0] if found else None

    def _for(self, conn: sa.Connection) -> Any:
        if isinstance(self._statement, sa.Executable):
            return self._statement
        name = conn.dialect.name
        if name not in self._made:
            self._made[name] = self._statement(name)
        return self._made[name]

    def _compile(self, conn: sa.Connection, parameters: Parameters) -> _Compiled:
        """Threads may compile the same at once, which is no harm."""
        names = tuple(parameters)
        compiled = self._compiled.get(names)
        if compiled is None:
            compiled = self._compiled[names] = _Compiled(self._for(conn), conn.dialect, parameters)
        return compiled

    def _cursor(self, conn: sa.Connection, parameters: Parameters) -> sqlite3.Cursor:
        compiled = self._compile(conn, parameters)
        return compiled.execute(driver_of(conn), compiled.values(parameters))


class _Compiled:
    """The text of a statement for parameters of these names, and what their types make of values."""

    def __init__(self, statement: Any, dialect: sa.Dialect, parameters: Parameters) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(parameters))
        state = compiled.construct_expanded_state(parameters)
        self._sql = state.statement
        self._values: list[Any] = []  # as they are sent, but for the parameters
        self._parameters: list[tuple[int, str, _Processor]] = []
        for place, name in enumerate(state.positiontup or ()):
            bind = compiled.binds.get(name)
            process = state.processors.get(name) if bind is None else _process_bind(bind.type, dialect)
            constant = None if name in parameters else state.parameters[name]
            self._values.append(constant if process is None or constant is None else process(constant))
            if name in parameters:
                self._parameters.append((place, name, process))
        results = [(column.key, _process_result(column.type, dialect)) for column in statement.exported_columns]
        self._columns = [key for key, _ in results]
        self._processed = [(key, process) for key, process in results if process is not None]

    def values(self, parameters: Parameters) -> list[Any]:
        values = self._values.copy()
        for place, name, process in self._parameters:
            value = parameters[name]
            values[place] = value if process is None else process(value)
        return values

    def row(self, values: Iterable[Any]) -> Row:
        row = dict(zip(self._columns, values, strict=True))
        for key, process in self._processed:
            row[key] = process(row[key])
        return row

    def execute(self, driver: sqlite3.Connection, values: Sequence[Any]) -> sqlite3.Cursor:
        try:
            return driver.execute(self._sql, values)
        except sqlite3.Error as exc:
            raise _wrapped(exc, self._sql) from exc

    def execute_each(self, driver: sqlite3.Connection, values: Iterable[Sequence[Any]]) -> None:
        try:
            driver.executemany(self._sql, values)
        except sqlite3.Error as exc:
            raise _wrapped(exc, self._sql) from exc


def driver_of(conn: sa.Connection) -> sqlite3.Connection:
    """SQLite's own connection, in the transaction of `conn`."""
    driver: sqlite3.Connection = conn.connection.driver_connection  # type: ignore[assignment]
    return driver


def run_alone(conn: sa.Connection, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
    """SQLite's own words."""
    try:
        return driver_of(conn).execute(sql, values)
    except sqlite3.Error as exc:
        raise _wrapped(exc, sql) from exc


def _wrapped(exc: sqlite3.Error, sql: str) -> BaseException:
    """As SQLAlchemy reports it, but without the parameters: they may be a prompt."""
    return sa.exc.DBAPIError.instance(sql, None, exc, sqlite3.Error, hide_parameters=True)


def _process_bind(kind: Any, dialect: sa.Dialect) -> _Processor:
    return kind.dialect_impl(dialect).bind_processor(dialect)  # type: ignore[no-any-return]


def _process_result(kind: Any, dialect: sa.Dialect) -> _Processor:
    return kind.dialect_impl(dialect).result_processor(dialect, None)  # type: ignore[no-any-return]
