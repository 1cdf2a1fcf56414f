"""Limits that fill up are found and told once, on both engines."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.limits import DefaultLimit, Limit, Metric, ScopeKind, Window
from gateway.services.alerts import Alerts
from gateway.storage import alerts, tables_accounts, usage_log, webhooks
from gateway.storage.alerts import Alert
from gateway.storage.database import Database, now_ms
from gateway.storage.webhooks import Webhook
from tests.services.test_limit_usage import World as Accounts
from tests.support.ledger import PRICE, Books, usage_row

COST = (Metric.COST_USD, Window.MONTH)


class World(Accounts):
    """Accounts and purchases, watched."""

    def __init__(self, database: Database, defaults: Any = ()) -> None:
        super().__init__(database)
        self.told = 0
        self.alerts = Alerts(database, defaults, told=self._tell)

    def _tell(self) -> None:
        self.told += 1

    async def hook(self, name: str, **changes: Any) -> None:
        hook = Webhook(id=f"hook_{name}", name=name, url="http://x.test/", secret="sealed", created_ms=1, **changes)
        await self.database.write(lambda conn: webhooks.insert(conn, hook))

    async def seen(self, **filters: Any) -> list[Alert]:
        return list(reversed((await self.alerts.list(**{"limit": 100} | filters)).data))


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


async def test_each_share_is_told_once_to_every_webhook_that_is_enabled(world: World):
    await world.hook("a")
    await world.hook("b")
    await world.hook("off", disabled_ms=1)
    await world.hook("gone", deleted_ms=1)
    ada = await world.caller()
    await world.limit(ada, "user", (*COST, "0.13", (50, 100)))
    await world.buy(ada)
    assert await world.alerts.check() == 1
    await world.buy(ada)
    assert [await world.alerts.check() for _ in range(2)] == [1, 0]
    first, second = await world.seen()
    assert (first.name, first.percent, first.used, first.amount) == ("Ada", 50, PRICE, 2 * PRICE)
    assert (second.percent, second.used, second.limit.name) == (100, 2 * PRICE, "user-cost_usd-month")
    sent = await world.books.rows(tables_accounts.deliveries)
    assert sorted((row["alert_id"], row["webhook_id"], row["status"]) for row in sent) == sorted(
        (alert.id, hook, "pending") for alert in (first, second) for hook in ("hook_a", "hook_b")
    )
    assert world.told == 2


async def test_what_is_only_reserved_does_not_count(world: World):
    ada = await world.caller()
    await world.limit(ada, "team", (*COST, "0.065", (100,)))
    await world.buy(ada, settled=False)
    assert await world.alerts.check() == 0


async def test_a_limit_without_alerts_and_one_of_nothing_are_silent(world: World):
    ada = await world.caller()
    await world.limit(ada, "key", (*COST, "0.065"), (Metric.IMAGES, Window.DAY, "0", (100,)))
    await world.buy(ada, under=False)
    assert await world.alerts.check() == 0


async def test_calls_are_counted_and_each_mode_by_itself(world: World):
    ada = await world.caller()
    await world.limit(ada, "team", (Metric.REQUESTS, Window.DAY, "4", (50,)))
    at_ms = await world.database.read(now_ms)
    rows = [usage_row(at_ms=at_ms, mode=mode, **ada) for mode in ("live", "test", "test")]
    await world.database.write(lambda conn: usage_log.add(conn, rows))
    assert await world.alerts.check() == 1
    assert [(alert.mode, alert.used) for alert in await world.seen()] == [("test", 2)]


async def test_defaults_are_watched_too(database: Database):
    world = World(database, [DefaultLimit(*COST, 2 * PRICE, (50,)), DefaultLimit(Metric.IMAGES, Window.DAY, 1)])
    ada = await world.caller()
    await world.buy(ada)
    assert await world.alerts.check() == 1
    assert [alert.scope_id for alert in await world.seen()] == [ada["user_id"]]


async def test_what_was_spent_before_a_limit_was_set_is_told_with_the_next_purchase(world: World):
    ada = await world.caller()
    await world.buy(ada, under=False)
    await world.limit(ada, "user", (*COST, "0.065", (100,)))
    assert await world.alerts.check() == 0
    held = [applied.limit for applied in await world.of(ada, "user") if applied.limit.metric is Metric.COST_USD]
    await world.books.reserved(*(replace(limit, amount=10 * PRICE) for limit in held), **ada)
    assert await world.alerts.check() == 1


async def test_a_new_amount_is_told_anew_once_and_so_is_a_new_window(world: World):
    """A limit for good that was raised would else never be told of again."""
    ada = await world.caller()
    await world.limit(ada, "user", (*COST, "0.065", (100,)))
    await world.buy(ada)
    assert await world.alerts.check() == 1
    await world.limit(ada, "user", (*COST, "0.13", (100,)))
    assert await world.alerts.check() == 0
    await world.buy(ada)
    assert await world.alerts.check() == 1
    assert sorted((alert.amount, alert.used) for alert in await world.seen()) == [
        (PRICE, PRICE),
        (2 * PRICE, 2 * PRICE),
    ]
    await world.limit(ada, "user", (*COST, "0.065", (100,)))
    assert await world.alerts.check() == 0
    older = tables_accounts.alerts.update().values(window_start_ms=5)
    await world.database.write(lambda conn: conn.execute(older))
    assert await world.alerts.check() == 1


async def test_replicas_that_look_at_once_tell_once(world: World):
    await world.hook("a")
    ada = await world.caller()
    await world.limit(ada, "user", (*COST, "0.065", (10, 50, 100)))
    await world.buy(ada)
    assert sum(await asyncio.gather(*(world.alerts.check() for _ in range(8)))) == 3
    assert len(await world.books.rows(tables_accounts.deliveries)) == 3


async def test_alerts_are_found_by_mode_scope_and_team_and_outlive_whom_they_are_about(world: World):
    ada, bob = await world.caller("Ada"), await world.caller("Bob")
    for caller in (ada, bob):
        for scope in ("team", "user", "key"):
            await world.limit(caller, scope, (*COST, "0.065", (100,)))
        await world.buy(caller)
    assert await world.alerts.check() == 6
    assert {alert.scope_id for alert in await world.seen(team_id=ada["team_id"])} == set(ada.values())
    assert [alert.name for alert in await world.seen(scope_id=bob["key_id"])] == ["ci"]
    assert await world.seen(mode="test") == []
    assert await world.seen(to_ms=5) == []
    page = await world.alerts.list(limit=4)
    rest = await world.alerts.list(limit=4, cursor=page.next_cursor)
    assert len({alert.id for alert in [*page.data, *rest.data]}) == 6
    await world.accounts.delete_user(str(bob["user_id"]), actor="a test")
    assert len(await world.seen()) == 6


async def test_more_crossings_than_fit_into_one_question_are_all_found(database: Database):
    wanted = [
        Limit(ScopeKind.TEAM, f"team_{number}", Metric.COST_USD, Window.TOTAL, 1, (100,)) for number in range(250)
    ]
    crossings = [alerts.Crossing("live", limit, 0, 100, 1) for limit in wanted]
    made = await database.write(lambda conn: alerts.record(conn, crossings))
    again = await database.write(lambda conn: alerts.record(conn, crossings))
    assert (len(made), again) == (250, [])
    assert len(await Books(database).rows(tables_accounts.alerts)) == 250
