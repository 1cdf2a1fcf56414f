"""What becomes of money whose fate is unknown: the provider's books tell, or an administrator, or time.

found in the books      settled to what they say
not there               settled to nothing, once they can't miss it any more (time-out + lag of the books)
no books to be had      after a day the estimate is posted
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import sqlalchemy as sa
import structlog

from gateway.domain.books import BookEntry
from gateway.domain.pricing import usd
from gateway.errors import Conflict, DarkroomError, LedgerUnavailable, NotFound, ProviderTimeout, reason_of, to_record
from gateway.providers.base import BooksUnavailable, NoBooks
from gateway.services.buying import Vendor
from gateway.storage import audit, settlement
from gateway.storage.audit import Act
from gateway.storage.database import Database
from gateway.storage.prepared import Row
from gateway.storage.settlement import SettledBy, Unknown
from gateway.telemetry.metrics import Metrics

_PERIOD_S = 60.0
_WITHOUT_BOOKS_MS = 24 * 3600 * 1000
_MARGIN_MS = 15 * 60 * 1000
"""Our clock and the provider's may differ."""

_log = structlog.get_logger(__name__)


class Settlement:
    """One a process; that several look at the same books does no harm, a generation is settled once."""

    def __init__(
        self,
        database: Database,
        vendors: Mapping[str, Vendor],
        metrics: Metrics,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._vendors = vendors
        self._metrics = metrics
        self._sleep = sleep

    async def run(self) -> None:
        """For ever; what fails is tried again."""
        while True:
            try:
                await self.settle_unknown()
            except LedgerUnavailable as exc:
                _log.warning("settlement_waits", reason=reason_of(exc))
            except Exception:  # noqa: BLE001  (whatever it was, the next round is owed its turn)
                _log.exception("settlement_failed")
            await self._sleep(_PERIOD_S)

    async def settle_unknown(self) -> int:
        """One look at the books for all that is unknown. Returns how many were settled."""
        by_provider: defaultdict[str, list[Unknown]] = defaultdict(list)
        for unknown in await self._database.read(settlement.list_unknown):
            by_provider[unknown.provider].append(unknown)
        found = sum(map(len, by_provider.values()))
        settled = sum([await self._settle_at(name, unknowns) for name, unknowns in by_provider.items()])
        self._metrics.unknown_purchases.set(found - settled)
        return settled

    async def _settle_at(self, provider: str, unknowns: Sequence[Unknown]) -> int:
        vendor = self._vendors.get(provider)
        since_ms = min(unknown.sent_ms for unknown in unknowns) - _MARGIN_MS
        until_ms = max(unknown.sent_ms + unknown.sent_ago_ms for unknown in unknowns) + _MARGIN_MS
        entries = await self._books(vendor, since_ms, until_ms) if vendor is not None else {}
        settled = 0
        for unknown in unknowns:
            decision = _decide(unknown, entries.get(unknown.provider_key_id), vendor)
            settled += decision is not None and await self._settle(unknown.id, *decision)
        return settled

    async def _books(self, vendor: Vendor, since_ms: int, until_ms: int) -> dict[str, list[BookEntry]]:
        """By provider key; a key whose books can't be had now is missing."""
        found = {}
        for key in vendor.pool.all_keys():
            try:
                found[key.id] = await vendor.provider.read_books(key, since_ms=since_ms, until_ms=until_ms)
            except NoBooks:
                return {}
            except BooksUnavailable as exc:
                _log.warning("books_unavailable", provider=vendor.provider.name, key=key.id, reason=str(exc))
        return found

    async def settle_found(self, entries: Iterable[BookEntry]) -> int:
        """Settle what is unknown and stands in these books. Returns how many."""
        costs = _costs(entries)
        unknowns = await self._database.read(settlement.list_unknown)
        return sum(
            [await self._settle(unknown.id, costs[unknown.id], "books") for unknown in unknowns if unknown.id in costs]
        )

    async def settle_by_hand(self, generation_id: str, cost_micro_usd: int, *, reason: str, actor: str) -> None:
        """An administrator says what an unknown purchase cost. Raises NotFound, and Conflict unless it is unknown."""

        def work(conn: sa.Connection) -> None:
            _require(conn, generation_id)
            if not settlement.settle(
                conn, generation_id, cost_micro_usd, by="administrator", error=_said(cost_micro_usd, "administrator")
            ):
                raise Conflict("This generation is not unknown: what is settled is corrected by an adjustment.")
            audit.record(conn, Act(actor, "settle", "generation", generation_id, _detail(cost_micro_usd, reason)))

        await self._database.write(work)

    async def correct(self, generation_id: str, cost_micro_usd: int, *, reason: str, actor: str) -> int:
        """An adjustment that brings a settled purchase to what it cost. Returns its amount, 0 when nothing differs.

        Raises NotFound, and Conflict while it is not settled.
        """

        def work(conn: sa.Connection) -> int:
            row = _require(conn, generation_id)
            if row["cost_micro_usd"] is None:
                raise Conflict("This generation is not settled yet: an unknown one is settled, not adjusted.")
            amount = settlement.correct(conn, row, cost_micro_usd, reason=reason, actor=actor)
            if amount:
                audit.record(conn, Act(actor, "adjust", "generation", generation_id, _detail(cost_micro_usd, reason)))
            return amount

        return await self._database.write(work)

    async def _settle(self, generation_id: str, cost_micro_usd: int, by: SettledBy) -> bool:
        error = _said(cost_micro_usd, by)
        settled = await self._database.write(
            lambda conn: settlement.settle(conn, generation_id, cost_micro_usd, by=by, error=error)
        )
        if settled:
            _log.info("settled", generation_id=generation_id, cost_micro_usd=cost_micro_usd, by=by)
        return settled


def _decide(
    unknown: Unknown, entries: Sequence[BookEntry] | None, vendor: Vendor | None
) -> tuple[int, SettledBy] | None:
    """What it is settled to, and by what; None: not yet."""
    if entries is not None and vendor is not None:
        found = _costs(entries).get(unknown.id)
        if found is not None:
            return found, "books"
        return (0, "books") if unknown.sent_ago_ms > (vendor.timeout_s + vendor.books_lag_s) * 1000 else None
    if unknown.sent_ago_ms > _WITHOUT_BOOKS_MS:
        return unknown.reserved_micro_usd, "estimate"
    return None


def _costs(entries: Iterable[BookEntry]) -> dict[str, int]:
    """By generation. A call may be booked several times, one attempt refused and the next served."""
    costs: defaultdict[str, int] = defaultdict(int)
    for entry in entries:
        if entry.client_request_id:
            costs[entry.client_request_id] += entry.cost_micro_usd
    return costs


def _said(cost_micro_usd: int, by: SettledBy) -> dict[str, object]:
    """What those who ask again are told."""
    if cost_micro_usd == 0:
        error: DarkroomError = ProviderTimeout("The answer was lost; it turned out not to be charged.", charged="no")
    elif by == "estimate":
        error = ProviderTimeout("The answer was lost; it is counted as charged, by its estimate.", charged="unknown")
    else:
        error = ProviderTimeout("The answer was lost; the provider charged for it all the same.", charged="yes")
    return to_record(error)


def _require(conn: sa.Connection, generation_id: str) -> Row:
    row = settlement.lock(conn, generation_id)
    if row is None:
        raise NotFound(f"There is no generation {generation_id[:64]!r}.")
    return row


def _detail(cost_micro_usd: int, reason: str) -> dict[str, str]:
    return {"cost_usd": usd(cost_micro_usd), "reason": reason}
