"""A caller's repeat of a call that went unanswered: it gets the picture of the first, once, and buys nothing.

A generation is abandoned when its caller's connection was seen to close, or the caller was told to come back. The
next equal call of that caller takes it over; a picture once delivered is never delivered this way again.

SQL gone: nothing can be taken over, and nothing be bought.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from gateway.storage.database import NOW_MS, insert, now_ms
from gateway.storage.prepared import Prepared
from gateway.storage.tables import UNDER_WAY, generations, shares

REMEMBERED_MS = 15 * 60 * 1000
_WORTH_TAKING = (*UNDER_WAY, "succeeded")


def _abandoned(dialect: str) -> sa.Select[Any]:
    """The database's time, and the oldest abandoned generation of a repeat key, if there is one."""
    now = sa.literal_column(NOW_MS[dialect], sa.BigInteger)
    g = generations.c
    found = (
        sa.select(g.id)
        .where(
            g.repeat_key == sa.bindparam("repeat_key"),
            g.abandoned_ms > now - REMEMBERED_MS,
            g.status.in_(_WORTH_TAKING),
        )
        .order_by(g.abandoned_ms)
        .limit(1)
    )
    return sa.select(now.label("now_ms"), found.scalar_subquery().label("id"))


_ABANDONED = Prepared(_abandoned)


class AlreadyYours(Exception):
    """The caller bought the same a moment ago and went without it: take that one over. No limit was touched."""

    def __init__(self, generation_id: str) -> None:
        super().__init__(generation_id)
        self.generation_id = generation_id


class AlreadyLost(AlreadyYours):
    """The caller retries a purchase whose outcome is unknown: it is told so again."""


def look(conn: sa.Connection, repeat_key: str, *, flight: str | None, retried: bool) -> int:
    """The database's time in milliseconds, if nothing is to be taken over: one round trip for both.

    Raises AlreadyYours for an abandoned generation; for a retry AlreadyLost too, of its own or of its `flight`.
    """
    g = generations.c
    [found] = _ABANDONED.rows(conn, {"repeat_key": repeat_key})
    if found["id"] is not None:
        raise AlreadyYours(found["id"])
    now = int(found["now_ms"])
    if retried:
        since = now - REMEMBERED_MS
        ours = g.repeat_key == repeat_key if flight is None else sa.or_(g.repeat_key == repeat_key, g.flight == flight)
        lost = sa.select(g.id).where(g.status == "unknown", g.finished_ms > since, ours)
        unknown = conn.execute(lost.order_by(g.finished_ms.desc()).limit(1)).scalar_one_or_none()
        if unknown is not None:
            raise AlreadyLost(unknown)
    return now


def take(conn: sa.Connection, generation_id: str) -> bool:
    """Take over an abandoned generation. False: an equal call was faster."""
    g = generations.c
    taken = sa.update(generations).where(
        g.id == generation_id, g.abandoned_ms.is_not(None), g.status.in_(_WORTH_TAKING)
    )
    return conn.execute(taken.values(abandoned_ms=None)).rowcount == 1


def abandon(conn: sa.Connection, generation_id: str) -> None:
    """Its caller has gone, or was told to come back."""
    conn.execute(sa.update(generations).where(generations.c.id == generation_id).values(abandoned_ms=now_ms(conn)))


def share(conn: sa.Connection, generation_id: str, user_id: str) -> None:
    """Promise the picture of a generation to a user who joined it and does not wait."""
    made = insert(conn, shares).values(generation_id=generation_id, user_id=user_id)
    conn.execute(made.on_conflict_do_nothing())


def is_shared(conn: sa.Connection, generation_id: str, user_id: str) -> bool:
    found = sa.select(shares.c.user_id).filter_by(generation_id=generation_id, user_id=user_id)
    return conn.execute(found).one_or_none() is not None
