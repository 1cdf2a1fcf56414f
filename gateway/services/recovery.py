"""What becomes of purchases whose process is gone, and of paid pictures that could not be fetched at once.

pending   never sent: released
sent      nobody knows: `unknown`, its money held
answered  paid: fetched and published, for an hour; then `failed`, with its cost
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import msgspec
import structlog

from gateway.domain.answer import StoredAnswer
from gateway.domain.usage_row import failed_row
from gateway.errors import (
    DarkroomError,
    LedgerUnavailable,
    ProviderTimeout,
    ProviderUnavailable,
    from_record,
    reason_of,
    to_record,
)
from gateway.providers.base import ImageUnusable, Provider
from gateway.services.answers import AnswerCache
from gateway.services.publication import Expected, Paid, Published, Publisher
from gateway.storage import generations, orphans
from gateway.storage.database import Database
from gateway.storage.orphans import Orphan

_PERIOD_S = 15.0
_GIVE_UP_MS = 3_600_000

_log = structlog.get_logger(__name__)


class _Departed:
    """Stands in for a provider that is no longer configured: its pictures can't be fetched, until it is back."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def fetch(self, address: str) -> bytes:  # noqa: ARG002  (no address can be fetched)
        raise ImageUnusable(f"its provider, {self.name}, is not configured any more", permanent=False)


class NeverSent(Exception):
    """The generation that was waited for has been released: nothing was bought, and the one who waited may buy."""


class Recovery:
    """One a process; also renews the leases of what this process has under way, purchases and recoveries.

    `active`: the ids of the purchases under way in this process, at any moment. `tell` is called with a generation that
    something became of.
    """

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        answers: AnswerCache,
        providers: Mapping[str, Provider],
        *,
        process_id: str,
        active: Collection[str],
        tell: Callable[[str], None] = lambda _generation_id: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._answers = answers
        self._providers = providers
        self._process_id = process_id
        self._active = active
        self._tell = tell
        self._resuming: set[str] = set()
        self._left_over: list[Orphan] = []
        self._sleep = sleep

    async def take_over(self) -> None:
        """At the start of a process that is alone with its database: nobody's lease matters.

        Money is settled now; pictures that are paid for are fetched in `run`, so that no image host delays a start.
        """
        while found := await self._claim(alone=True):
            for orphan in found:
                if orphan.status == "answered":
                    self._resuming.add(orphan.id)
                    self._left_over.append(orphan)
                else:
                    await self._settle(orphan)

    async def run(self) -> None:
        """For ever: renew and recover, neither waiting for the other."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._settle_each(self._left_over))
            tasks.create_task(self._repeat(self.renew))
            tasks.create_task(self._repeat(self.recover))

    async def _repeat(self, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await work()
            except LedgerUnavailable as exc:
                _log.warning("recovery_waits", reason=reason_of(exc))
            except Exception:  # noqa: BLE001  (whatever it was, the leases are owed their next turn)
                _log.exception("recovery_failed")
            await self._sleep(_PERIOD_S)

    async def renew(self) -> None:
        """What nobody here works on any more is not renewed: it runs out and is recovered, by us too."""
        at_work = self._at_work
        if at_work:
            await self._database.write(lambda conn: orphans.renew_leases(conn, self._process_id, at_work))

    async def recover(self) -> int:
        """One pass over the orphans. Returns how many there were."""
        claimed = await self._claim(alone=False)
        # with SQL gone for a while the leases of our own ran out too; they are not orphans, and are renewed by this
        found = [orphan for orphan in claimed if orphan.id not in self._at_work]
        await self._settle_each(sorted(found, key=lambda orphan: orphan.status == "answered"))  # pictures take long
        return len(found)

    @property
    def _at_work(self) -> set[str]:
        return {*self._active, *self._resuming}

    async def _claim(self, *, alone: bool) -> list[Orphan]:
        return await self._database.write(
            lambda conn: orphans.claim_orphans(conn, lease_owner=self._process_id, all_others=alone)
        )

    async def _settle_each(self, found: Sequence[Orphan]) -> None:
        for orphan in found:
            try:
                await self._settle(orphan)
                self._tell(orphan.id)
            except Exception:  # noqa: BLE001  (whatever one orphan does, the others are owed their turn)
                _log.exception("orphan_not_settled", generation_id=orphan.id)

    async def _settle(self, orphan: Orphan) -> None:
        _log.info("orphan", generation_id=orphan.id, status=orphan.status)
        if orphan.status == "answered":
            try:
                await self._resume(orphan)
            except DarkroomError as exc:
                _log.warning("picture_not_fetched", generation_id=orphan.id, reason=exc.message)
            return
        if orphan.status == "sent":
            await self._lose(orphan)
        else:
            await self._release(orphan)

    async def _lose(self, orphan: Orphan) -> None:
        said = ProviderTimeout(
            "The gateway stopped while the order was out. It may have been charged, so it is not repeated.",
            charged="unknown",
        )
        row = failed_row(orphan.usage, said, cost_micro_usd=None)
        await self._database.write(lambda conn: generations.lose(conn, orphan.id, error=to_record(said), usage=row))

    async def _release(self, orphan: Orphan) -> None:
        said = ProviderUnavailable("The gateway stopped before the order was sent.", charged="no")
        row = failed_row(orphan.usage, said, cost_micro_usd=0)
        await self._database.write(
            lambda conn: generations.fail(conn, orphan.id, error=to_record(said), usage=row, frees_claims=True)
        )

    async def _resume(self, orphan: Orphan) -> Published:
        """Fetch and publish what is paid for. Raises what `Publisher.publish` raises; then it is left for later."""
        paid = self._paid(orphan)
        self._resuming.add(orphan.id)
        try:
            published = await self._publisher.publish(paid)
        except DarkroomError as exc:
            if (orphan.answered_ago_ms or 0) > _GIVE_UP_MS:
                await self._publisher.abandon(paid, exc.message)
            else:
                await self._database.write(lambda conn: orphans.disown(conn, orphan.id, lease_owner=self._process_id))
            raise
        finally:
            self._resuming.discard(orphan.id)
        if published.entry is not None:
            self._answers.keep(published.entry)
        _log.info("picture_recovered", generation_id=orphan.id)
        return published

    def _paid(self, orphan: Orphan) -> Paid:
        if orphan.answer is None or orphan.cost_micro_usd is None:
            raise RuntimeError(f"{orphan.id} is answered without an answer")
        return Paid(
            generation_id=orphan.id,
            provider=self._providers.get(orphan.provider) or _Departed(orphan.provider),
            answer=orphan.answer,
            cost_micro_usd=orphan.cost_micro_usd,
            expected=msgspec.convert(orphan.expected, Expected),
            storable=orphan.storable,
            usage=orphan.usage,
            latency_us=lambda: orphan.usage.latency_us,
        )

    async def look(self, generation_id: str) -> StoredAnswer | None:
        """What became of a generation that this process does not work on; None while it is under way.

        A paid picture that nobody fetches is taken over. Raises NeverSent when it was released without having been
        sent, ProviderError when its picture can't be had, and the refusal that it ended with.
        """
        state = await self._database.read(lambda conn: generations.state_of(conn, generation_id))
        if state is not None and state.status == "answered" and state.is_free:
            orphan = await self._database.write(
                lambda conn: orphans.claim_answered(conn, generation_id, lease_owner=self._process_id)
            )
            return None if orphan is None else (await self._resume(orphan)).answer
        if state is None or (state.status == "failed" and not state.was_sent):
            raise NeverSent(generation_id)
        if not state.under_way and state.answer is None:
            raise from_record(state.error or {"code": "provider_error", "message": "It ended without a picture."})
        return state.answer
