"""What is left of each limit of a caller."""

from __future__ import annotations

import time
from dataclasses import dataclass

from gateway.domain.caller import Caller
from gateway.domain.limits import Limit, Metric
from gateway.services.clock import clock
from gateway.storage import counters
from gateway.storage.database import Database, now_ms
from gateway.storage.rate_limits import RateLimits


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """A limit and what is left of it. `reset_s` None: never resets (or nothing to reset)."""

    limit: Limit
    left: int
    reset_s: int | None


class Budgets:
    def __init__(self, database: Database, rates: RateLimits) -> None:
        self._database = database
        self._rates = rates

    async def of(self, caller: Caller) -> list[BudgetLine]:
        """Every limit that applies to the caller; looking takes nothing."""
        at_ms = clock.now_ms()
        rates = await self._rates.look(caller, now_ns=time.monotonic_ns(), now_ms=at_ms)
        held = [limit for limit in caller.limits if limit.metric is not Metric.REQUESTS]
        standings = await self._database.read(
            lambda conn: counters.standings(conn, held, mode=caller.mode.value, now_ms=now_ms(conn))
        )
        lines = {state.limit: BudgetLine(state.limit, state.left, state.reset_s) for state in rates}
        for standing in standings:
            reset_s = None if standing.reset_ms is None else max(0, (standing.reset_ms - at_ms) // 1000)
            lines[standing.limit] = BudgetLine(standing.limit, standing.left, reset_s)
        return [lines[limit] for limit in caller.limits if limit in lines]
