"""Telling webhooks: each message is signed, sent until it is taken or a day and a half of trying is over, and logged.

Several replicas may send: a delivery is taken by one of them. One that dies while it sends leaves it to be sent again,
with the same id: whoever listens takes a message by its id once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
import structlog

from gateway.domain.webhook import next_attempt_ms, signed_headers
from gateway.errors import DarkroomError, LedgerUnavailable, reason_of
from gateway.services.alert_event import limit_reached, tested
from gateway.services.webhooks import Webhooks
from gateway.storage import alerts, webhooks
from gateway.storage.database import Database, now_ms
from gateway.storage.paging import Page
from gateway.storage.pauses import pause
from gateway.storage.webhooks import TAKEN_FOR_MS, Delivery, Due
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    import httpx

_PERIOD_S = 5.0
_TIMEOUT_S = 10.0
_AT_ONCE = 16
_LONGEST_ERROR = 500
_log = structlog.get_logger(__name__)
_NowMs = Callable[[sa.Connection], int]


class Deliveries:
    """`now`: the time by which deliveries are due, the database's."""

    def __init__(
        self,
        database: Database,
        hooks: Webhooks,
        metrics: Metrics,
        *,
        now: _NowMs = now_ms,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._hooks = hooks
        self._metrics = metrics
        self._now = now
        self._sleep = sleep
        self._waiting = asyncio.Event()
        self._http: httpx.AsyncClient | None = None

    def wake(self) -> None:
        """There is something to deliver."""
        self._waiting.set()

    async def run(self) -> None:
        """For ever; what fails is tried again."""
        while True:
            self._waiting.clear()
            try:
                while await self.deliver_due():
                    pass
            except LedgerUnavailable as exc:
                _log.warning("deliveries_wait", reason=reason_of(exc))
            except Exception:  # noqa: BLE001  (whatever it was, the next round is owed its turn)
                _log.exception("deliveries_failed")
            await pause(_PERIOD_S, unless=self._waiting, sleep=self._sleep)

    async def deliver_due(self) -> int:
        """Send what is due. Returns how many were sent, taken or not."""
        if not await self._database.read(lambda conn: webhooks.is_due(conn, now_ms=self._now(conn))):
            return 0
        due = await self._database.write(lambda conn: webhooks.take_due(conn, now_ms=self._now(conn), limit=_AT_ONCE))
        await asyncio.gather(*(self._deliver(each) for each in due))
        return len(due)

    async def list(self, **filters: Any) -> Page[Delivery]:
        """Newest first; `filters` are those of `storage.webhooks.list_deliveries`. Raises InvalidRequest."""
        return await self._database.read(lambda conn: webhooks.list_deliveries(conn, **filters))

    async def test(self, webhook_id: str) -> Delivery:
        """Send a message that is no alert, now and once. Raises NotFound."""

        def work(conn: sa.Connection) -> Due:
            webhook, now = webhooks.require(conn, webhook_id), self._now(conn)
            made = webhooks.add_delivery(conn, webhook_id, None, now_ms=now, due_ms=now + TAKEN_FOR_MS)
            return Due(made, webhook)

        return await self._deliver(await self._database.write(work))

    async def retry(self, delivery_id: str) -> Delivery:
        """Send one again, now; if it is not taken, its tries begin anew. Raises NotFound."""

        def work(conn: sa.Connection) -> Due:
            webhooks.require_delivery(conn, delivery_id)
            values = {"status": "pending", "attempts": 0, "next_ms": self._now(conn) + TAKEN_FOR_MS}
            webhooks.update_delivery(conn, delivery_id, values)
            return webhooks.due_of(conn, delivery_id)[0]

        return await self._deliver(await self._database.write(work))

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()

    async def _deliver(self, due: Due) -> Delivery:
        status, error = await self._try(due)
        attempts = due.delivery.attempts + 1
        taken = error is None

        def work(conn: sa.Connection) -> Delivery:
            now = self._now(conn)
            is_last = due.delivery.alert_id is None or due.webhook.disabled_ms or due.webhook.deleted_ms
            again_ms = None if taken or is_last else next_attempt_ms(attempts, now)
            outcome = "delivered" if taken else "failed" if again_ms is None else "pending"
            values = {
                "status": outcome,
                "attempts": attempts,
                "next_ms": again_ms,
                "last_status": status,
                "last_error": None if error is None else error[:_LONGEST_ERROR],
                "delivered_ms": now if taken else None,
            }
            return webhooks.update_delivery(conn, due.delivery.id, values)

        done = await self._database.write(work)
        self._metrics.webhook_deliveries.labels("retried" if done.status == "pending" else done.status).inc()
        if not taken:
            _log.warning("webhook_not_told", webhook_id=due.webhook.id, delivery_id=done.id, reason=done.last_error)
        return done

    async def _try(self, due: Due) -> tuple[int | None, str | None]:
        """The status that came, and what was wrong."""
        delivery, webhook = due
        if webhook.deleted_ms is not None or webhook.disabled_ms is not None:
            return None, f"The webhook is {'deleted' if webhook.deleted_ms is not None else 'disabled'}."
        try:
            secret = self._hooks.secret_of(webhook)
            body = await self._body(due)
        except DarkroomError as exc:
            return None, exc.message
        at_s = int(time.time())
        headers = signed_headers(secret, message_id=delivery.id, at_s=at_s, body=body)
        return await self._post(webhook.url, body, {**headers, "content-type": "application/json"})

    async def _body(self, due: Due) -> bytes:
        alert_id = due.delivery.alert_id
        if alert_id is None:
            return msgspec.json.encode(tested(due.webhook, at_ms=due.delivery.created_ms))
        return msgspec.json.encode(
            limit_reached(await self._database.read(lambda conn: alerts.require(conn, alert_id)))
        )

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[int | None, str | None]:
        import httpx  # noqa: PLC0415  (many a gateway has no webhook)

        if self._http is None:
            self._http = httpx.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=False)
        try:
            async with (
                asyncio.timeout(_TIMEOUT_S),
                self._http.stream("POST", url, content=body, headers=headers) as got,
            ):
                status = got.status_code  # what else it says is not read
        except TimeoutError:
            return None, f"No answer in {_TIMEOUT_S:.0f} s."
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            return None, f"{type(exc).__name__}: {exc}"
        return status, None if 200 <= status < 300 else f"It answered {status}."
