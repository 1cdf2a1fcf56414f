"""What is used of limits, many at once and one by one, on both engines."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.domain.api_key import Mode
from gateway.domain.declaration import LimitEntry
from gateway.domain.limits import DefaultLimit, Metric, ScopeKind, Window
from gateway.errors import NotFound
from gateway.services.accounts import AccountService
from gateway.services.limit_usage import AppliedLimit, LimitUsage
from gateway.storage import counters, usage_log
from gateway.storage.database import Database, now_ms
from gateway.storage.limits_in_use import LimitInUse
from tests.support.ledger import PRICE, Books, intent, usage_row

ACTOR = "a test"
DEFAULTS = [DefaultLimit(Metric.COST_USD, Window.MONTH, 10 * PRICE), DefaultLimit(Metric.REQUESTS, Window.MINUTE, 9)]


class World:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.books = Books(database)
        self.accounts = AccountService(database, [b"pepper"], ["flux-pro"], notify=lambda _kind, _id: None)
        self.usage = LimitUsage(database, DEFAULTS, flush=self._flush)
        self.flushed = 0

    async def _flush(self) -> None:
        self.flushed += 1

    async def caller(self, name: str = "Ada", *, team: str | None = "Search") -> dict[str, str | None]:
        """A team, a user and a key, as the columns of a purchase."""
        team_id = None if team is None else (await self.accounts.create_team(actor=ACTOR, name=team)).id
        user = await self.accounts.create_user(actor=ACTOR, name=name, team_id=team_id)
        key = await self.accounts.create_key(actor=ACTOR, user_id=user.id, name="ci", mode=Mode.LIVE)
        return {"team_id": team_id, "user_id": user.id, "key_id": key.key.id}

    async def limit(self, caller: dict[str, str | None], scope: str, *entries: tuple[Any, ...]) -> None:
        await self.accounts.put_limits(
            ScopeKind(scope), str(caller[f"{scope}_id"]), [LimitEntry(*entry) for entry in entries], actor=ACTOR
        )

    async def buy(self, caller: dict[str, str | None], *, under: bool = True, settled: bool = True) -> None:
        """A purchase, under the limits that apply or as before there were any."""
        found = [applied.limit for applied in await self.of(caller, "key")] if under else []
        held = [limit for limit in found if limit.metric is not Metric.REQUESTS]
        made = intent(**caller)
        if settled:
            await self.books.reserve_answered(made, *held)
        else:
            await self.books.reserve(made, *held)

    async def calls(self, caller: dict[str, str | None], number: int) -> None:
        at_ms = await self.database.read(now_ms)
        rows = [usage_row(at_ms=at_ms, **caller) for _ in range(number)]
        await self.database.write(lambda conn: usage_log.add(conn, rows))

    async def of(self, caller: dict[str, str | None], scope: str, mode: str = "live") -> list[AppliedLimit]:
        return await self.usage.of(ScopeKind(scope), str(caller[f"{scope}_id"]), mode=mode)

    async def list(self, **options: Any) -> list[LimitInUse]:
        asked: dict[str, Any] = {"mode": "live", "limit": 100} | options
        return (await self.usage.fullest(**asked)).data


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def shown(lines: list[LimitInUse]) -> list[tuple[str, str, int, int, float]]:
    return [(line.limit.name, line.name, line.used, line.reserved, line.percent) for line in lines]


COST = (Metric.COST_USD, Window.MONTH)


async def test_the_fullest_come_first_with_what_is_spent_and_held(world: World):
    ada, bob = await world.caller("Ada"), await world.caller("Bob", team=None)
    await world.limit(ada, "team", (*COST, "1.30"))
    await world.limit(ada, "user", (Metric.IMAGES, Window.DAY, "4"), (*COST, "1"))
    await world.limit(bob, "key", (Metric.CONCURRENCY, Window.NONE, "2"), (*COST, "0"))
    await world.buy(ada)
    await world.buy(ada, settled=False)
    assert shown(await world.list()) == [
        ("key-cost_usd-month", "ci", 0, 0, 100.0),
        ("user-images-day", "Ada", 1, 1, 50.0),
        ("user-cost_usd-month", "Ada", PRICE, PRICE, 13.0),
        ("team-cost_usd-month", "Search", PRICE, PRICE, 10.0),
        ("key-concurrency", "ci", 0, 0, 0.0),
    ]
    assert [line.left for line in await world.list(near=13)] == [0, 2, 1_000_000 - 2 * PRICE]
    assert len(await world.list(limit=2)) == 2
    assert {line.limit.scope for line in await world.list(scope=ScopeKind.USER)} == {ScopeKind.USER}
    assert {line.used for line in await world.list(mode="test")} == {0}


async def test_concurrency_is_used_by_what_is_under_way(world: World):
    ada = await world.caller()
    await world.limit(ada, "user", (Metric.CONCURRENCY, Window.NONE, "4"))
    await world.buy(ada, settled=False)
    [line] = await world.list(scope=ScopeKind.USER, near=20)
    assert (line.used, line.reserved, line.left, line.reset_ms) == (1, 0, 3, None)


async def test_a_limit_set_in_mid_window_shows_what_the_window_has_spent_before(world: World):
    ada = await world.caller()
    await world.buy(ada, under=False)
    await world.limit(ada, "user", (*COST, "0.65"))
    await world.limit(ada, "key", (Metric.IMAGES, Window.TOTAL, "2"))
    assert shown(await world.list()) == [
        ("key-images-total", "ci", 1, 0, 50.0),
        ("user-cost_usd-month", "Ada", PRICE, 0, 10.0),
    ]


async def test_requests_of_long_windows_are_counted_and_rates_left_out(world: World):
    ada = await world.caller()
    await world.limit(ada, "user", (Metric.REQUESTS, Window.DAY, "10"), (Metric.REQUESTS, Window.HOUR, "5"))
    await world.calls(ada, 3)
    [line] = await world.list()
    assert (line.limit.name, line.used, line.percent) == ("user-requests-day", 3, 30.0)
    assert world.flushed == 1


async def test_defaults_are_shown_of_users_who_used_some_and_have_none_of_their_own(world: World):
    ada, bob = await world.caller("Ada"), await world.caller("Bob")
    await world.caller("Eve")
    for caller in (ada, bob):
        await world.buy(caller)
    await world.limit(bob, "user", (*COST, "6.5"))
    assert shown(await world.list()) == [
        ("user-cost_usd-month", "Ada", PRICE, 0, 10.0),
        ("user-cost_usd-month", "Bob", PRICE, 0, 1.0),
    ]
    assert shown(await world.list(team_id=bob["team_id"])) == [("user-cost_usd-month", "Bob", PRICE, 0, 1.0)]


async def test_defaults_of_requests_count_calls(world: World):
    usage = LimitUsage(world.database, [DefaultLimit(Metric.REQUESTS, Window.DAY, 4)], flush=world._flush)
    ada = await world.caller("Ada")
    await world.caller("Eve")
    await world.calls(ada, 2)
    page = await usage.fullest(mode="live", limit=10)
    assert [(line.name, line.used, line.left) for line in page.data] == [("Ada", 2, 2)]


async def test_a_team_sees_its_own_and_those_of_its_users_and_keys(world: World):
    ada, bob = await world.caller("Ada"), await world.caller("Bob")
    for caller in (ada, bob):
        for scope in ("team", "user", "key"):
            await world.limit(caller, scope, (Metric.IMAGES, Window.DAY, "4"))
    mine = await world.list(team_id=ada["team_id"])
    assert {line.limit.scope_id for line in mine} == set(ada.values())
    assert await world.list(team_id="no\0team") == []


async def test_what_is_deleted_is_left_out(world: World):
    ada = await world.caller()
    for scope in ("team", "user", "key"):
        await world.limit(ada, scope, (Metric.IMAGES, Window.DAY, "4"))
    await world.accounts.delete_user(str(ada["user_id"]), actor=ACTOR)
    await world.accounts.delete_team(str(ada["team_id"]), actor=ACTOR)
    assert await world.list() == []


async def test_all_that_applies_to_a_key_is_shown_with_where_it_comes_from(world: World):
    ada = await world.caller()
    await world.limit(ada, "team", (Metric.IMAGES, Window.DAY, "4", (80,)))
    await world.limit(ada, "key", (*COST, "1"))
    await world.buy(ada)
    rows = [
        (applied.limit.name, applied.name, applied.inherited, applied.use and applied.use.used)
        for applied in await world.of(ada, "key")
    ]
    assert rows == [
        ("team-images-day", "Search", True, 1),
        ("user-cost_usd-month", "Ada", True, PRICE),
        ("user-requests-minute", "Ada", True, None),
        ("key-cost_usd-month", "ci", False, PRICE),
    ]
    assert [applied.limit.alert_at for applied in await world.of(ada, "team")] == [(80,)]
    await world.limit(ada, "user", (*COST, "0.65"))
    [own] = [applied for applied in await world.of(ada, "user") if applied.limit.metric is Metric.COST_USD]
    assert (own.inherited, own.use and own.use.percent) == (False, 10.0)
    with pytest.raises(NotFound):
        await world.usage.of(ScopeKind.KEY, str(ada["key_id"]), mode="live", team_id="team_2")


async def test_what_is_worked_out_is_what_a_counter_would_say(world: World):
    ada = await world.caller()
    for settled in (True, False, True):
        await world.buy(ada, under=False, settled=settled)

    def look(conn: Any) -> Any:
        return counters.spent_since(conn, ScopeKind.USER, [str(ada["user_id"])], mode="live", since_ms=0)

    found = await world.database.read(look)
    assert found[ada["user_id"], Metric.COST_USD] == (2 * PRICE, PRICE)
    assert found[ada["user_id"], Metric.IMAGES] == (2, 1)
    assert found[ada["user_id"], Metric.CONCURRENCY] == (0, 1)
