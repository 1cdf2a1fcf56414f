"""Messages to webhooks: signed, sent once, tried again by the clock, logged. The far end is a real server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.domain.limits import Limit, Metric, ScopeKind, Window
from gateway.domain.webhook import BACK_OFF_S
from gateway.errors import InvalidRequest, NotFound
from gateway.services.deliveries import Deliveries
from gateway.services.webhooks import NewWebhook, Webhooks
from gateway.storage import alerts, webhooks
from gateway.storage.alerts import Crossing
from gateway.storage.database import Database
from gateway.storage.sealing import Sealer
from gateway.storage.tables_accounts import audit_log
from gateway.storage.tables_accounts import webhooks as webhook_table
from gateway.storage.webhooks import Delivery
from gateway.telemetry.metrics import Metrics
from tests.support.ledger import Books
from tests.support.ports import free_port
from tests.support.waiting import until
from tests.support.webhook_receiver import Receiver, receiving

ACTOR = "a test"
KEY = os.urandom(32)


class World:
    def __init__(self, database: Database, receiver: Receiver) -> None:
        self.database = database
        self.receiver = receiver
        self.now_ms = 1_800_000_000_000
        self.metrics = Metrics()
        self.hooks = Webhooks(database, Sealer([KEY]))
        self.deliveries = Deliveries(database, self.hooks, self.metrics, now=lambda _conn: self.now_ms)

    async def hook(self, name: str = "pager", url: str | None = None) -> NewWebhook:
        made = await self.hooks.create(name, url or self.receiver.url, actor=ACTOR)
        self.receiver.secrets.append(made.secret)
        return made

    async def alert(self, percent: int = 80) -> str:
        """An alert, to be told now."""
        limit = Limit(ScopeKind.USER, "user_1", Metric.COST_USD, Window.MONTH, 1_000_000)

        def work(conn: sa.Connection) -> str:
            [alert_id] = alerts.record(conn, [Crossing("live", limit, 1_798_761_600_000, percent, 810_000)])
            for webhook in webhooks.every(conn):
                if webhook.disabled_ms is None:
                    webhooks.add_delivery(conn, webhook.id, alert_id, now_ms=self.now_ms, due_ms=self.now_ms)
            return alert_id

        return await self.database.write(work)

    async def log(self, **filters: Any) -> list[Delivery]:
        return (await self.deliveries.list(limit=100, **filters)).data

    async def something_came(self) -> None:
        async def look() -> bool:
            return bool(self.receiver.got)

        await until(look)

    def counted(self, outcome: str) -> float:
        return self.metrics.registry.get_sample_value("darkroom_webhook_deliveries_total", {"outcome": outcome}) or 0.0


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    async with receiving() as receiver:
        made = World(database, receiver)
        yield made
        await made.deliveries.close()


async def test_an_alert_is_told_signed_and_logged(world: World):
    made = await world.hook()
    alert_id = await world.alert()
    assert await world.deliveries.deliver_due() == 1
    assert await world.deliveries.deliver_due() == 0
    [message], [logged] = world.receiver.got, await world.log()
    assert (message.id, message.signed_by, message.content_type) == (logged.id, made.secret, "application/json")
    assert message.body["type"] == "limit.reached"
    assert message.body["data"] == {
        "alert_id": alert_id, "mode": "live", "limit": "user-cost_usd-month", "scope": "user", "scope_id": "user_1",
        "name": None, "metric": "cost_usd", "window": "month", "percent": 80, "amount": "1", "used": "0.81",
        "period": {"from": "2027-01-01T00:00:00Z", "to": "2027-02-01T00:00:00Z"},
    }  # fmt: skip
    assert (logged.status, logged.attempts, logged.last_status, logged.next_ms) == ("delivered", 1, 204, None)
    assert logged.delivered_ms == world.now_ms
    assert world.counted("delivered") == 1


async def test_a_receiver_that_fails_is_tried_again_under_the_same_id_until_it_takes_it(world: World):
    await world.hook()
    world.receiver.answers = [500, 302]
    await world.alert()
    await world.deliveries.deliver_due()
    [logged] = await world.log(status="pending")
    assert (logged.last_status, logged.last_error) == (500, "It answered 500.")
    assert logged.next_ms == world.now_ms + BACK_OFF_S[0] * 1000
    world.now_ms += BACK_OFF_S[0] * 1000 - 1
    assert await world.deliveries.deliver_due() == 0
    world.now_ms += 1
    assert await world.deliveries.deliver_due() == 1
    [logged] = await world.log()
    assert (logged.last_status, len(world.receiver.got)) == (302, 2), "redirects are not followed"
    world.now_ms += BACK_OFF_S[1] * 1000
    assert await world.deliveries.deliver_due() == 1
    [logged] = await world.log(status="delivered")
    assert (logged.attempts, logged.last_error) == (3, None)
    assert len({message.id for message in world.receiver.got}) == 1
    assert (world.counted("retried"), world.counted("delivered")) == (2, 1)


async def test_after_the_last_try_it_has_failed_and_can_be_sent_again_by_hand(world: World):
    await world.hook()
    world.receiver.answers = [503] * (len(BACK_OFF_S) + 1)
    await world.alert()
    for pause_s in (*BACK_OFF_S, 0):
        assert await world.deliveries.deliver_due() == 1
        world.now_ms += pause_s * 1000
    [logged] = await world.log()
    assert (logged.status, logged.attempts, logged.next_ms) == ("failed", len(BACK_OFF_S) + 1, None)
    assert world.counted("failed") == 1
    assert await world.deliveries.deliver_due() == 0
    again = await world.deliveries.retry(logged.id)
    assert (again.status, again.attempts, again.last_error) == ("delivered", 1, None)


async def test_what_does_not_answer_is_said_and_no_secret_with_it(world: World):
    made = await world.hook(url=f"http://127.0.0.1:{free_port()}/x")
    done = await world.deliveries.test(made.webhook.id)
    assert (done.status, done.last_status) == ("failed", None)
    assert (done.last_error or "").startswith("ConnectError")
    assert made.secret not in (done.last_error or "")


async def test_replicas_at_once_send_it_once(world: World):
    await world.hook()
    await world.alert()
    world.receiver.hold = asyncio.Event()
    other = Deliveries(world.database, world.hooks, world.metrics, now=lambda _conn: world.now_ms)
    sending = [asyncio.create_task(each.deliver_due()) for each in (world.deliveries, other, other)]
    await world.something_came()
    world.receiver.hold.set()
    assert sorted(await asyncio.gather(*sending)) == [0, 0, 1]
    await other.close()
    assert len(world.receiver.got) == 1


async def test_what_a_replica_left_is_sent_a_minute_later(world: World):
    await world.hook()
    await world.alert()
    await world.database.write(lambda conn: webhooks.take_due(conn, now_ms=world.now_ms, limit=9))
    assert await world.deliveries.deliver_due() == 0
    world.now_ms += webhooks.TAKEN_FOR_MS
    assert await world.deliveries.deliver_due() == 1


async def test_a_test_is_sent_once_whatever_comes_of_it(world: World):
    made = await world.hook()
    world.receiver.answers = [400]
    done = await world.deliveries.test(made.webhook.id)
    assert (done.status, done.alert_id, done.last_status) == ("failed", None, 400)
    done = await world.deliveries.test(made.webhook.id)
    assert done.status == "delivered"
    assert world.receiver.got[-1].body["type"] == "webhook.test"
    assert world.receiver.got[-1].body["data"] == {"webhook_id": made.webhook.id, "name": "pager"}
    with pytest.raises(NotFound):
        await world.deliveries.test("hook_none")


async def test_one_that_is_disabled_or_deleted_gets_nothing_more(world: World):
    first, second = await world.hook("first"), await world.hook("second")
    await world.alert()
    await world.hooks.update(first.webhook.id, {"disabled": True}, actor=ACTOR)
    await world.hooks.delete(second.webhook.id, actor=ACTOR)
    assert await world.deliveries.deliver_due() == 2
    assert world.receiver.got == []
    assert {logged.last_error for logged in await world.log(status="failed")} == {
        "The webhook is disabled.",
        "The webhook is deleted.",
    }


async def test_a_new_secret_signs_at_once(world: World):
    made = await world.hook()
    fresh = await world.hooks.rotate(made.webhook.id, actor=ACTOR)
    world.receiver.secrets.append(fresh.secret)
    await world.deliveries.test(made.webhook.id)
    assert world.receiver.got[-1].signed_by == fresh.secret != made.secret


async def test_secrets_are_sealed_erased_with_their_webhook_and_nowhere_in_the_audit(world: World):
    made = await world.hook()
    [row] = await Books(world.database).rows(webhook_table)
    assert row["secret"].startswith("v1:")
    newer = Webhooks(world.database, Sealer([os.urandom(32), KEY]))
    assert [await newer.reencrypt(actor=ACTOR) for _ in range(2)] == [1, 0]
    assert newer.secret_of(await newer.get(made.webhook.id)) == made.secret
    await newer.delete(made.webhook.id, actor=ACTOR)
    [row] = await Books(world.database).rows(webhook_table)
    assert row["secret"] == ""
    events = await Books(world.database).rows(audit_log)
    assert {event["action"] for event in events} == {"webhook.create", "webhook.reencrypt", "webhook.delete"}
    assert made.secret not in str(events)
    with pytest.raises(NotFound):
        await newer.get(made.webhook.id)


async def test_without_a_key_to_seal_with_there_can_be_none(database: Database):
    with pytest.raises(InvalidRequest, match="encryption_keys"):
        await Webhooks(database, None).create("pager", "https://example.com/", actor=ACTOR)


async def test_it_is_sent_soon_after_it_is_woken(world: World):
    await world.hook()
    idle = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        idle.set()
        await asyncio.Event().wait()

    deliveries = Deliveries(world.database, world.hooks, world.metrics, now=lambda _conn: world.now_ms, sleep=sleep)
    running = asyncio.create_task(deliveries.run())
    await idle.wait()
    await world.alert()
    deliveries.wake()
    await world.something_came()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await deliveries.close()
