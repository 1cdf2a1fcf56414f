"""Closing months: their sums are frozen, and what comes to them later is carried by the next statement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import sqlalchemy as sa

from gateway.domain.api_key import Mode
from gateway.domain.month import Month, parse_month
from gateway.domain.pricing import usd
from gateway.errors import Conflict, NotFound
from gateway.storage import audit, statements
from gateway.storage.audit import Act
from gateway.storage.database import Database, now_ms
from gateway.storage.statements import Line, Statement


class Statements:
    def __init__(self, database: Database, *, flush: Callable[[], Awaitable[None]]) -> None:
        """`flush` brings rows of this process's journal into SQL, so that a month misses none of its own calls."""
        self._database = database
        self._flush = flush

    async def close(self, month: str, mode: Mode, *, actor: str) -> Statement:
        """Freeze what a month came to, in one transaction. Raises InvalidRequest for what is not a month, and Conflict
        for one that is not over, is closed, or has an open one with usage before it.
        """
        chosen = parse_month(month)
        await self._flush()

        def work(conn: sa.Connection) -> Statement:
            statements.lock(conn)
            now = now_ms(conn)
            closed = statements.closed_months(conn, mode.value)
            _check(conn, chosen, mode, closed, now)
            earlier = [parse_month(text) for text in sorted(closed) if text < chosen.text]
            lines = statements.work_out(conn, chosen, mode.value, earlier)
            made = Statement(
                month=chosen.text,
                mode=mode.value,
                closed_ms=now,
                closed_by=actor,
                cost_micro_usd=sum(line.cost_micro_usd for line in lines),
            )
            statements.put(conn, made, lines)
            detail = {"mode": mode.value, "cost_usd": usd(made.cost_micro_usd)}
            audit.record(conn, Act(actor, "close", "statement", chosen.text, detail))
            return made

        return await self._database.write(work)

    async def list(self, *, mode: Mode | None = None, team_id: str | None = None) -> Sequence[Statement]:
        """Newest month first; with a team, what it cost the team."""
        named = None if mode is None else mode.value
        return await self._database.read(lambda conn: statements.list_all(conn, mode=named, team_id=team_id))

    async def get(self, month: str, mode: Mode, *, team_id: str | None = None) -> tuple[Statement, Sequence[Line]]:
        """A statement and its lines, or those of a team. Raises InvalidRequest and NotFound."""
        chosen = parse_month(month)
        found = await self._database.read(lambda conn: statements.find(conn, chosen.text, mode.value, team_id=team_id))
        if found is None:
            raise NotFound(f"{chosen.text} is not closed ({mode}); `darkroom usage statements` shows those that are.")
        return found


def _check(conn: sa.Connection, month: Month, mode: Mode, closed: set[str], now: int) -> None:
    if now < month.end_ms:
        raise Conflict(f"{month.text} is not over yet (UTC), so what it comes to is not known.")
    if month.text in closed:
        raise Conflict(f"{month.text} is closed ({mode}); what came to it since is carried by the next statement.")
    before = statements.first_open(conn, mode.value, before_ms=month.start_ms, closed=closed)
    if before is not None:
        raise Conflict(f"{before} has usage and is not closed ({mode}): months are closed in order.")
