"""Pages of a list, newest first. A cursor is a place in the order of (time, id): new rows move nothing."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from gateway.errors import InvalidRequest

Row = TypeVar("Row")

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
_MAX_MS = 2**63 - 1
_ID = re.compile(r"[0-9A-Za-z_]{1,64}")


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """`next_cursor` None: this was the last page."""

    data: list[Row]
    next_cursor: str | None

    @property
    def has_more(self) -> bool:
        return self.next_cursor is not None


def is_id(text: str) -> bool:
    """Whether this can be an id at all. PostgreSQL refuses NUL, so what can't be is not asked for."""
    return _ID.fullmatch(text) is not None


def filtered(query: sa.Select[Any], filters: Mapping[sa.Column[Any], str | None]) -> sa.Select[Any]:
    """The query, with columns equal to ids or other plain words; None does not filter."""
    for column, value in filters.items():
        if value is not None:
            query = query.where(column == value if is_id(value) else sa.false())
    return query


def read_page(
    conn: sa.Connection,
    query: sa.Select[Any],
    *,
    order: tuple[sa.Column[int], sa.Column[str]],
    convert: Callable[[sa.Row[Any]], Row],
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[Row]:
    """A page of `query`, whose columns include the two of `order`. Raises InvalidRequest."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit must be 1 to {MAX_LIMIT}, not {limit}.", param="limit")
    at, row_id = order
    if cursor is not None:
        query = query.where(sa.tuple_(at, row_id) < sa.tuple_(*parse_cursor(cursor)))
    rows = conn.execute(query.order_by(at.desc(), row_id.desc()).limit(limit + 1)).all()
    last = rows[limit - 1] if len(rows) > limit else None
    data = [convert(row) for row in rows[:limit]]
    return Page(data, None if last is None else cursor_of(getattr(last, at.name), getattr(last, row_id.name)))


def cursor_of(at_ms: int, row_id: str) -> str:
    return base64.urlsafe_b64encode(f"{at_ms}.{row_id}".encode()).decode().rstrip("=")


def parse_cursor(text: str) -> tuple[int, str]:
    try:
        plain = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
        at_ms, _, row_id = plain.partition(".")
        if not at_ms.isdigit() or int(at_ms) > _MAX_MS or not is_id(row_id):
            raise ValueError(text)
    except (ValueError, binascii.Error) as exc:
        raise InvalidRequest("cursor is not one that a list gave; leave it out.", param="cursor") from exc
    return int(at_ms), row_id
