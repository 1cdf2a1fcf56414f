"""The cache: entries in SQL are the truth; answers held in memory stand in front of it, bounded in bytes.

SQL gone: entries held in memory go on answering, all others are misses that can't be bought.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.domain.answer import StoredAnswer
from gateway.storage import image_index
from gateway.storage.database import insert_for
from gateway.storage.image_index import Removal
from gateway.storage.prepared import Prepared
from gateway.storage.tables import cache_entries, generations

_c = cache_entries.c
_FIND = Prepared(
    sa.select(_c.fingerprint, _c.answer, _c.created_ms, _c.expires_ms).where(
        _c.fingerprint == sa.bindparam("fingerprint")
    )
)
_decode = msgspec.json.Decoder(StoredAnswer).decode


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored answer under its fingerprint. `expires_ms` None: never."""

    fingerprint: str
    answer: StoredAnswer
    created_ms: int
    expires_ms: int | None


def find(conn: sa.Connection, fingerprint: str) -> Entry | None:
    row = _FIND.row(conn, {"fingerprint": fingerprint})
    if row is None:
        return None
    return Entry(row["fingerprint"], _decode(row["answer"]), row["created_ms"], row["expires_ms"])


def put(conn: sa.Connection, entry: Entry, *, mode: str, model: str, user_id: str) -> None:
    """Insert the entry, or replace the one of its fingerprint."""
    row = {
        "fingerprint": entry.fingerprint,
        "generation_id": entry.answer.generation_id,
        "mode": mode,
        "model": model,
        "user_id": user_id,
        "answer": msgspec.json.encode(entry.answer),
        "created_ms": entry.created_ms,
        "expires_ms": entry.expires_ms,
    }
    _PUT.run(conn, row)


def _replace(dialect: str) -> Any:
    made = insert_for(dialect, cache_entries)
    replaced = {c.name: made.excluded[c.name] for c in cache_entries.columns if not c.primary_key}
    return made.on_conflict_do_update(index_elements=[cache_entries.c.fingerprint], set_=replaced)


_PUT = Prepared(_replace)


@dataclass(frozen=True, slots=True)
class PurgeFilter:
    """What to purge; every field that is set must match. `team_id`: whose user bought it. `_ms`: since the epoch."""

    fingerprint: str | None = None
    model: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    before_ms: int | None = None
    expired_at_ms: int | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        c = cache_entries.c
        found = [
            getattr(c, name) == value
            for name, value in (
                ("fingerprint", self.fingerprint),
                ("model", self.model),
                ("user_id", self.user_id),
            )
            if value is not None
        ]
        if self.team_id is not None:
            bought = sa.select(generations.c.team_id).where(generations.c.id == c.generation_id).scalar_subquery()
            found.append(bought == self.team_id)
        if self.before_ms is not None:
            found.append(c.created_ms < self.before_ms)
        if self.expired_at_ms is not None:
            found.append(c.expires_ms <= self.expired_at_ms)
        return found


def purge(conn: sa.Connection, chosen: PurgeFilter, *, now_ms: int, limit: int = 1000) -> Removal:
    """Delete up to `limit` entries and their pictures; none when all are gone."""
    found = sa.select(cache_entries.c.generation_id).where(*chosen.conditions()).limit(limit)
    return image_index.remove_generations(conn, list(conn.execute(found).scalars()), now_ms=now_ms)


def stats(conn: sa.Connection) -> list[dict[str, Any]]:
    """Entries and how old they are, by mode and model."""
    c = cache_entries.c
    found = sa.select(
        c.mode,
        c.model,
        sa.func.count().label("entries"),
        sa.func.min(c.created_ms).label("oldest_ms"),
        sa.func.max(c.created_ms).label("newest_ms"),
    )
    return [dict(row) for row in conn.execute(found.group_by(c.mode, c.model).order_by(c.mode, c.model)).mappings()]


_HEAD_BYTES = 400


class HeldAnswer:
    """An entry in memory. `body` is the answer, made at the first hit; `message` all that every hit sends alike."""

    __slots__ = ("body", "entry", "message", "size_bytes")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.body: bytes | None = None
        self.message: bytes | None = None
        self.size_bytes = 600 + 300 * len(entry.answer.images)


class MemoryAnswers:
    """Least recently used answers, bounded in bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, HeldAnswer] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, fingerprint: str) -> HeldAnswer | None:
        held = self._held.get(fingerprint)
        if held is not None:
            self._held.move_to_end(fingerprint)
        return held

    def put(self, entry: Entry) -> HeldAnswer:
        self.drop(entry.fingerprint)
        held = HeldAnswer(entry)
        self._held[entry.fingerprint] = held
        self.grow(held, held.size_bytes, fresh=True)
        return held

    def set_body(self, held: HeldAnswer, body: bytes) -> None:
        """Keep the rendered answer, if the entry is still held."""
        if self._held.get(held.entry.fingerprint) is held and held.body is None:
            held.body = body
            self.grow(held, 2 * len(body) + _HEAD_BYTES)  # and once more in its message

    def grow(self, held: HeldAnswer, by_bytes: int, *, fresh: bool = False) -> None:
        if not fresh:
            held.size_bytes += by_bytes
        self.size_bytes += by_bytes
        while self.size_bytes > self._max_bytes and len(self._held) > 1:
            _, evicted = self._held.popitem(last=False)
            self.size_bytes -= evicted.size_bytes

    def drop(self, fingerprint: str) -> None:
        held = self._held.pop(fingerprint, None)
        if held is not None:
            self.size_bytes -= held.size_bytes

    def clear(self) -> None:
        self._held.clear()
        self.size_bytes = 0
