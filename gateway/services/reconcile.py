"""Reconciliation: our books beside the provider's, for a span of time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from gateway.domain.books import BookEntry, Comparison, OwnEntry, compare
from gateway.errors import InvalidRequest, NotFound, ProviderUnavailable
from gateway.providers.base import BooksUnavailable, NoBooks
from gateway.services.buying import Vendor
from gateway.services.settlement import Settlement
from gateway.storage.database import Database, now_ms
from gateway.storage.tables import generations

_MARGIN_MS = 60 * 60 * 1000
"""Looked at on either side of the span: clocks differ, and a call is booked when it ends."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """`settled`: how many unknown ones the books settled. `adjusted`: how many amounts were corrected by them."""

    provider: str
    from_ms: int
    to_ms: int
    settled: int
    adjusted: int
    found: Comparison


class Reconciler:
    def __init__(self, database: Database, vendors: Mapping[str, Vendor], settlement: Settlement) -> None:
        self._database = database
        self._vendors = vendors
        self._settlement = settlement

    async def reconcile(
        self,
        provider: str,
        *,
        from_ms: int,
        to_ms: int,
        entries: Sequence[BookEntry] | None = None,
        adjust: bool = False,
        actor: str,
    ) -> Reconciliation:
        """Compare what was sent in [from_ms, to_ms) with the provider's logs, or with `entries` of an export.

        What is unknown and in the books is settled by them. With `adjust`, amounts that differ become adjustments.
        Raises NotFound for a provider that is not configured, InvalidRequest for one without books, and
        ProviderUnavailable when they can't be read.
        """
        if from_ms >= to_ms:
            raise InvalidRequest("`from` must be before `to`.", param="from")
        vendor = self._vendors.get(provider)
        if vendor is None:
            raise NotFound(f"There is no provider {provider[:64]!r}; there is: {', '.join(sorted(self._vendors))}.")
        settled = 0
        if entries is None:
            entries = await self._books(vendor, from_ms - _MARGIN_MS, to_ms + _MARGIN_MS)
            settled += await self._settlement.settle_unknown()
        settled += await self._settlement.settle_found(entries)
        found = await self._compare(vendor, entries, from_ms, to_ms)
        adjusted = 0
        if adjust:
            for difference in found.differing:
                amount = await self._settlement.correct(
                    difference.id, difference.theirs_micro_usd, reason="the provider's books differ", actor=actor
                )
                adjusted += amount != 0
            found = await self._compare(vendor, entries, from_ms, to_ms)
        return Reconciliation(provider, from_ms, to_ms, settled, adjusted, found)

    async def _books(self, vendor: Vendor, since_ms: int, until_ms: int) -> list[BookEntry]:
        """Of all its keys; several may show one account, so each call counts once."""
        found: dict[object, BookEntry] = {}
        try:
            for key in vendor.pool.all_keys():
                for entry in await vendor.provider.read_books(key, since_ms=since_ms, until_ms=until_ms):
                    found[entry.request_id or entry.inference_id or entry] = entry
        except NoBooks:
            raise InvalidRequest(f"The provider {vendor.provider.name} keeps no books that can be read.") from None
        except BooksUnavailable as exc:
            raise ProviderUnavailable(f"The provider's books can't be read: {exc}.", retry_after_s=60) from exc
        return list(found.values())

    async def _compare(self, vendor: Vendor, entries: Sequence[BookEntry], from_ms: int, to_ms: int) -> Comparison:
        def work(conn: sa.Connection) -> tuple[list[OwnEntry], int]:
            sent = (from_ms - _MARGIN_MS, to_ms + _MARGIN_MS)
            return _own_entries(conn, vendor.provider.name, sent), now_ms(conn)

        ours, now = await self._database.read(work)
        young_ms = int((vendor.timeout_s + vendor.books_lag_s) * 1000)
        return await asyncio.to_thread(  # a month of calls takes a second, in which others want answers
            compare, ours, entries, from_ms=from_ms, to_ms=to_ms, settled_before_ms=now - young_ms
        )


def _own_entries(conn: sa.Connection, provider: str, sent: tuple[int, int]) -> list[OwnEntry]:
    g = generations.c
    cost = g.cost_micro_usd + g.adjusted_micro_usd  # NULL while it is not settled
    found = sa.select(g.id, g.status, g.sent_ms, cost.label("cost_micro_usd")).where(
        g.provider == provider, g.sent_ms >= sent[0], g.sent_ms < sent[1]
    )
    return [OwnEntry(row.id, row.status, row.sent_ms, row.cost_micro_usd) for row in conn.execute(found)]
