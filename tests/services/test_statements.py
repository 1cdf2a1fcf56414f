"""Closing months, on both engines: what is frozen stays, and all statements together are what the ledger says."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import msgspec
import pytest

from gateway.domain.api_key import Mode
from gateway.domain.month import month_of, parse_month
from gateway.domain.usage_row import UsageRow
from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.services.accounts import AccountService
from gateway.services.statements import Statements
from gateway.storage import usage_log
from gateway.storage.database import Database, now_ms
from gateway.storage.statements import MEASURES, PLACE, Line
from gateway.storage.tables import usage_daily
from tests.support.ledger import AT_MS, PRICE, Books, usage_row

DAY_MS = 86_400_000
MONTHS = ["2026-01", "2026-02", "2026-03", "2026-04", "2026-05"]


class World:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.books = Books(database)
        self.flushed = 0
        self.statements = Statements(database, flush=self._flush)

    async def _flush(self) -> None:
        self.flushed += 1

    async def add(self, *rows: UsageRow) -> None:
        await self.database.write(lambda conn: usage_log.add(conn, rows))

    async def close(self, month: str, mode: Mode = Mode.LIVE) -> int:
        return (await self.statements.close(month, mode, actor="admin")).cost_micro_usd

    async def lines(self, month: str, mode: Mode = Mode.LIVE, **options: Any) -> list[Line]:
        return list((await self.statements.get(month, mode, **options))[1])


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def day(number: int, month: str = "2026-01", **changes: Any) -> UsageRow:
    return usage_row(at_ms=parse_month(month).start_ms + number * DAY_MS - 1, **changes)


async def test_a_month_is_frozen_by_key_model_and_provider(world: World):
    await world.add(
        day(1), day(2), day(31, model="flux-dev"), day(3, outcome="hit", cost_micro_usd=0, saved_micro_usd=PRICE)
    )
    await world.add(day(1, "2026-02"), day(3, mode="test"))
    assert await world.close("2026-01") == 3 * PRICE
    assert world.flushed == 1
    statement, lines = await world.statements.get("2026-01", Mode.LIVE)
    assert (statement.closed_by, statement.cost_micro_usd) == ("admin", 3 * PRICE)
    by_model = {line.model: line for line in lines}
    assert by_model.keys() == {"flux-pro", "flux-dev"}
    pro = by_model["flux-pro"]
    assert (pro.of_month, pro.requests, pro.hits, pro.images) == ("2026-01", 3, 1, 3)
    assert (pro.cost_micro_usd, pro.saved_micro_usd) == (2 * PRICE, PRICE)


async def test_names_are_those_of_the_closing(world: World):
    accounts = AccountService(world.database, [b"pepper"], [], notify=lambda _kind, _id: None)
    team = await accounts.create_team(actor="admin", name="Search")
    user = await accounts.create_user(actor="admin", name="Ada", team_id=team.id)
    key = await accounts.create_key(actor="admin", user_id=user.id, name="ci")
    await world.add(day(1, key_id=key.key.id, user_id=user.id, team_id=team.id), day(2, team_id=None))
    await accounts.delete_user(user.id, actor="admin")
    await world.close("2026-01")
    await accounts.update_team(team.id, {"name": "Discovery"}, actor="admin")
    names = {line.user_id: line.names for line in await world.lines("2026-01")}
    assert names[user.id] == {"team": "Search", "user": "Ada", "key": "ci"}
    assert names["user_1"] == {"team": None, "user": None, "key": None}


async def test_what_is_late_is_carried_once_by_the_next_statement(world: World):
    await world.add(day(1), day(1, "2026-02"))
    await world.close("2026-01")
    frozen = await world.lines("2026-01")
    await world.add(day(5, cost_micro_usd=None, outcome="failed", status=504, images=0), day(6, key_id="key_2"))
    assert await world.close("2026-02") == 2 * PRICE
    assert await world.lines("2026-01") == frozen
    carried = [line for line in await world.lines("2026-02") if line.of_month == "2026-01"]
    assert [(line.key_id, line.requests, line.cost_micro_usd) for line in carried] == [
        ("key_1", 1, 0), ("key_2", 1, PRICE),
    ]  # fmt: skip
    assert await world.close("2026-03") == 0
    assert await world.lines("2026-03") == []


async def test_a_late_answer_that_costs_is_carried_though_nothing_else_was_used(world: World):
    await world.add(day(1))
    await world.close("2026-01")
    await world.add(day(1, outcome="adjustment", status=0, images=0, cost_micro_usd=-PRICE))
    assert await world.close("2026-02") == -PRICE
    [line] = await world.lines("2026-02")
    assert (line.of_month, line.requests, line.cost_micro_usd) == ("2026-01", 0, -PRICE)


async def test_months_are_closed_once_in_order_and_when_they_are_over(world: World):
    await world.add(day(1), day(1, "2026-03"))
    with pytest.raises(Conflict, match="2026-01 has usage and is not closed"):
        await world.close("2026-03")
    await world.close("2026-01")
    with pytest.raises(Conflict, match="2026-01 is closed"):
        await world.close("2026-01")
    await world.close("2026-03")  # nothing was used in February
    this_month = month_of(await world.database.read(now_ms)).text
    for text in (this_month, "9998-01"):
        with pytest.raises(Conflict, match="not over yet"):
            await world.close(text)
    with pytest.raises(InvalidRequest):
        await world.close("2026-1")
    with pytest.raises(NotFound):
        await world.lines("2026-02")


async def test_a_month_that_got_usage_after_a_later_one_was_closed_is_closed_before_the_next(world: World):
    await world.add(day(1, "2026-02"))
    await world.close("2026-02")
    await world.add(day(1), day(2, "2026-02"))
    with pytest.raises(Conflict, match="2026-01 has usage"):
        await world.close("2026-03")
    assert await world.close("2026-01") == PRICE
    assert await world.close("2026-03") == PRICE


async def test_modes_are_closed_apart(world: World):
    await world.add(day(1), day(1, mode="test"), day(2, mode="test"))
    assert (await world.close("2026-01"), await world.close("2026-01", Mode.TEST)) == (PRICE, 2 * PRICE)
    found = await world.statements.list()
    assert [(each.month, each.mode) for each in found] == [("2026-01", "live"), ("2026-01", "test")]
    assert [each.cost_micro_usd for each in await world.statements.list(mode=Mode.TEST)] == [2 * PRICE]


async def test_of_two_who_close_a_month_one_does(world: World):
    await world.add(day(1))
    outcomes = await asyncio.gather(*(world.close("2026-01") for _ in range(4)), return_exceptions=True)
    assert Counter(type(outcome) for outcome in outcomes) == {int: 1, Conflict: 3}
    assert len(await world.lines("2026-01")) == 1


async def test_a_team_sees_its_own_lines(world: World):
    await world.add(day(1), day(2, team_id="team_2"), day(3, team_id=None))
    await world.close("2026-01")
    statement, lines = await world.statements.get("2026-01", Mode.LIVE, team_id="team_2")
    assert (statement.cost_micro_usd, [line.team_id for line in lines]) == (PRICE, ["team_2"])
    assert [each.cost_micro_usd for each in await world.statements.list(team_id="team_none")] == [0]


async def test_a_closing_is_audited(world: World):
    await world.add(day(1))
    await world.close("2026-01")
    accounts = AccountService(world.database, [b"pepper"], [], notify=lambda _kind, _id: None)
    [event] = (await accounts.list_audit()).data
    assert (event.action, event.object_id, event.detail) == (
        "statement.close", "2026-01", {"mode": "live", "cost_usd": "0.065"},
    )  # fmt: skip


async def test_a_settlement_and_a_correction_post_to_the_month_they_are_made_in(world: World):
    made = await world.books.unknown()
    [row] = [row for row in await world.books.rows(usage_daily) if row["requests"]]
    await world.books.settle(made.id, PRICE)
    await world.books.correct(made.id, 2 * PRICE)
    today = await world.database.read(now_ms)
    posted = [each for each in await world.books.rows(usage_daily) if each["cost_micro_usd"]]
    assert {month_of(each["day_ms"]).text for each in posted} == {month_of(today).text}
    assert month_of(row["day_ms"]).text == month_of(AT_MS).text != month_of(today).text
    assert await world.close("2026-01") == 0


def some_rows(chance: random.Random) -> list[UsageRow]:
    return [
        day(
            chance.randrange(1, 29),
            chance.choice(MONTHS),
            mode=chance.choice(["live", "live", "test"]),
            key_id=chance.choice(["key_1", "key_2"]),
            team_id=chance.choice(["team_1", None]),
            model=chance.choice(["flux-pro", None]),
            outcome=chance.choice(["bought", "hit", "refused", "settlement", "adjustment"]),
            cost_micro_usd=chance.choice([None, 0, PRICE, -PRICE, 1]),
            saved_micro_usd=chance.choice([0, PRICE]),
        )
        for _ in range(chance.randrange(30))
    ]


async def ledger(world: World) -> dict[tuple[str, ...], int]:
    """By mode, month and place: what the totals say."""
    found: Counter[tuple[str, ...]] = Counter()
    for row in await world.books.rows(usage_daily):
        place = (row["mode"], month_of(row["day_ms"]).text, *(row[name] for name in PLACE))
        for name in MEASURES:
            found[(*place, name)] += row[name]
    return {place: amount for place, amount in found.items() if amount}


async def stated(world: World) -> dict[tuple[str, ...], int]:
    """The same by all statements together."""
    found: Counter[tuple[str, ...]] = Counter()
    for head in await world.statements.list():
        for line in await world.lines(head.month, Mode(head.mode)):
            values = msgspec.structs.asdict(line)
            for name in MEASURES:
                found[(head.mode, line.of_month, *(values[name] for name in PLACE), name)] += values[name]
    return {place: amount for place, amount in found.items() if amount}


@pytest.mark.parametrize("seed", range(6))
async def test_all_statements_together_are_the_ledger(world: World, seed: int):
    """However rows come and months are closed: once all are closed and the next month carries the rest."""
    chance = random.Random(seed)
    for month in MONTHS:
        for mode in Mode:
            await world.add(*some_rows(chance))
            await world.close(month, mode)
            before = await world.lines(month, mode)
            await world.add(*some_rows(chance))
            assert await world.lines(month, mode) == before
    for mode in Mode:
        await world.close("2026-06", mode)
    assert await stated(world) == await ledger(world)
    assert sum(head.cost_micro_usd for head in await world.statements.list()) == sum(
        amount for (*_, name), amount in (await ledger(world)).items() if name == "cost_micro_usd"
    )
