"""A user who is erased: what it was called, wrote and got goes; ids, numbers and money stay.

In batches, each a transaction of its own. Each finds what is left to do by itself, so that what broke off is taken up.

SQL gone: nothing is erased.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from msgspec.structs import replace

from gateway.errors import NotFound
from gateway.storage import accounts, changes, image_index, usage_tags
from gateway.storage.database import now_ms
from gateway.storage.paging import is_id
from gateway.storage.tables import UNDER_WAY, generations, idempotency_keys, statement_lines, usage_log
from gateway.storage.tables_accounts import audit_log, keys, sessions, users

GONE = "(erased)"
_TELLING = ("name", "email", "labels")
"""What the audit log knows of accounts that may name a person."""
_g = generations.c


def pseudonym(user_id: str) -> str:
    """What is shown in place of its name, the same each time."""
    return f"erased user {user_id[-6:]}"


def lock(conn: sa.Connection, user_id: str) -> bool:
    """The user's row; whether it is deleted already. Raises NotFound."""
    found = sa.select(users.c.deleted_ms).where(users.c.id == user_id).with_for_update()
    row = conn.execute(found).one_or_none() if is_id(user_id) else None
    if row is None:
        raise NotFound("There never was a user with this id.")
    return row.deleted_ms is not None


class UnderWay(NamedTuple):
    generation_id: str
    since_ms: int


def last_under_way(conn: sa.Connection, user_id: str) -> UnderWay | None:
    """Of the purchases of a user."""
    found = sa.select(_g.id, _g.created_ms).where(_g.user_id == user_id, _g.status.in_(UNDER_WAY))
    row = conn.execute(found.order_by(_g.created_ms.desc()).limit(1)).one_or_none()
    return None if row is None else UnderWay(*row)


def erase_account(conn: sa.Connection, user_id: str) -> int:
    """The user and its keys: nameless, and deleted. Returns how many keys it ever had."""
    now = now_ms(conn)
    accounts.delete_keys_of(conn, user_id)
    every = sa.select(keys.c.id).where(keys.c.user_id == user_id)
    key_ids = list(conn.execute(every).scalars())
    conn.execute(sa.update(keys).where(keys.c.user_id == user_id).values(name=None, labels={}))
    nameless = sa.update(users).where(users.c.id == user_id).values(name=pseudonym(user_id), email=None, labels={})
    conn.execute(nameless.values(erased_ms=now, deleted_ms=sa.func.coalesce(users.c.deleted_ms, now)))
    conn.execute(sa.delete(idempotency_keys).where(idempotency_keys.c.key_id.in_(every)))
    prefixes = sa.select(keys.c.prefix).where(keys.c.user_id == user_id)  # callers' sessions name their keys by these
    conn.execute(sa.delete(sessions).where(sessions.c.subject_id.in_(prefixes)))
    return len(key_ids)


def redact_events(conn: sa.Connection, user_id: str) -> None:
    """The audit log goes on saying who did what to it and when."""
    c = audit_log.c
    about = sa.or_(c.object_id == user_id, c.object_id.in_(sa.select(keys.c.id).where(keys.c.user_id == user_id)))
    for row in conn.execute(sa.select(c.id, c.detail).where(about, c.detail.is_not(None))).all():
        detail = {name: _redacted(name, value) for name, value in row.detail.items()}
        if detail != row.detail:
            conn.execute(sa.update(audit_log).where(c.id == row.id).values(detail=detail))


def _redacted(name: str, value: Any) -> Any:
    return GONE if name in _TELLING and value else value


def redact_statements(conn: sa.Connection, user_id: str) -> None:
    """Its name and those of its keys in closed months; no number."""
    c = statement_lines.c
    mine = c.user_id == user_id
    for names in conn.execute(sa.select(c.names).where(mine).distinct()).scalars().all():
        nameless = names | {"user": pseudonym(user_id), "key": None}
        conn.execute(sa.update(statement_lines).where(mine, c.names == names).values(names=nameless))


@dataclass(frozen=True, slots=True)
class Batch:
    """`done`: rows changed. `since_ms`: where to go on, None at the end. `fingerprints`: of the entries that went."""

    done: int
    since_ms: int | None
    fingerprints: Sequence[str] = ()


def _dirty_generations(user_id: str, since_ms: int) -> tuple[sa.ColumnElement[bool], ...]:
    """Those that are over and still tell something."""
    told = (_g.request, _g.published, _g.answer, _g.repeat_key, _g.flight)
    tells = sa.or_(_g.fingerprint != GONE, *(column.is_not(None) for column in told))
    return (_g.user_id == user_id, _g.created_ms >= since_ms, _g.status.not_in(UNDER_WAY), tells)


def _dirty_calls(user_id: str, since_ms: int) -> tuple[sa.ColumnElement[bool], ...]:
    c = usage_log.c
    return (c.user_id == user_id, c.at_ms >= since_ms, sa.or_(c.tags.is_not(None), c.labels.is_not(None)))


def has_traces(conn: sa.Connection, user_id: str) -> bool:
    """Whether `erase_generations` or `erase_calls` would find anything."""
    generation = sa.select(_g.id).where(*_dirty_generations(user_id, 0)).exists()
    call = sa.select(usage_log.c.id).where(*_dirty_calls(user_id, 0)).exists()
    return bool(conn.execute(sa.select(sa.or_(generation, call))).scalar_one())


def erase_generations(conn: sa.Connection, user_id: str, *, since_ms: int, limit: int) -> Batch:
    """What was asked for, answered and refused in words; pictures and cache entries. Those under way are left."""
    found = (
        sa.select(_g.id, _g.created_ms, _g.usage, _g.error)
        .where(*_dirty_generations(user_id, since_ms))
        .order_by(_g.created_ms)
        .limit(limit)
        .with_for_update()
    )
    rows = conn.execute(found).all()
    if not rows:
        return Batch(0, None)
    removal = image_index.remove_generations(conn, [row.id for row in rows], now_ms=now_ms(conn))
    if removal.fingerprints:
        changes.record(conn, "cache", *removal.fingerprints)
    conn.execute(_NAMELESS, [_told_no_more(row) for row in rows])
    return Batch(len(rows), _next(rows[-1].created_ms, len(rows), limit), removal.fingerprints)


_NAMELESS = (
    sa.update(generations)
    .where(_g.id == sa.bindparam("the_id"))
    .values(
        request=None,
        published=None,
        answer=None,
        repeat_key=None,
        flight=None,
        fingerprint=GONE,
        usage=sa.bindparam("nameless"),
        error=sa.bindparam("said"),
    )
)


def _told_no_more(row: Any) -> dict[str, Any]:
    """A refusal may quote the prompt."""
    said = None if row.error is None else row.error | {"message": GONE}
    return {"the_id": row.id, "nameless": replace(row.usage, tags=None, labels=None), "said": said}


def erase_calls(conn: sa.Connection, user_id: str, *, since_ms: int, limit: int) -> Batch:
    """Tags and labels of its calls in the usage log, which may name a person, and at the end the totals by tag."""
    c = usage_log.c
    key = (c.at_ms, c.id)
    dirty = sa.select(*key).where(*_dirty_calls(user_id, since_ms)).order_by(*key).limit(limit)
    cleared = sa.update(usage_log).where(sa.tuple_(*key).in_(dirty)).values(tags=None, labels=None)
    times = list(conn.execute(cleared.returning(c.at_ms)).scalars())
    if len(times) < limit:  # the totals have no index by user: once is enough
        usage_tags.forget_user(conn, user_id)
    return Batch(len(times), _next(max(times, default=0), len(times), limit))


def _next(last_ms: int, found: int, limit: int) -> int | None:
    return last_ms if found == limit else None


def erased_since(conn: sa.Connection, ago_ms: int) -> list[str]:
    """Users who were erased not longer ago than that."""
    lately = sa.select(users.c.id).where(users.c.erased_ms > now_ms(conn) - ago_ms)
    return list(conn.execute(lately.order_by(users.c.id)).scalars())
