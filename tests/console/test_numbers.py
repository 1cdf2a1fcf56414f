"""What pages say of money is what the ledger says, to the micro-dollar."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import sqlalchemy as sa

from gateway.storage import tables
from tests.support.administrators import Organisation
from tests.support.console import signed_in


async def ledger(world: Organisation, column: str, value: str) -> tuple[int, Decimal, Decimal]:
    """Calls, dollars spent and saved, of the rows of the log themselves."""
    log = tables.usage_log.c
    sums = sa.select(
        sa.func.count(), sa.func.sum(sa.func.coalesce(log.cost_micro_usd, 0)), sa.func.sum(log.saved_micro_usd)
    ).where(log[column] == value)
    await world.gateway.usage()  # brings the journal into SQL
    database = world.gateway.resources.database
    calls, spent, saved = await database.read(lambda conn: tuple(conn.execute(sums).one()))
    return calls, Decimal(spent) / 10**6, Decimal(saved) / 10**6


def dollars(amount: Decimal) -> str:
    places = max(2, -int(amount.normalize().as_tuple().exponent))
    return f"${amount:,.{places}f}"


async def spend(world: Organisation) -> None:
    """Hits and purchases of both teams, some of several pictures."""
    for team, seeds in ((world.ours, (1, 1, 2, 3)), (world.theirs, (2, 2, 2, 9))):
        for seed in seeds:
            answer = await world.gateway.generate(
                team.key, seed=seed, num_images=seed % 2 + 1, headers={"darkroom-tags": f"app=app{seed}"}
            )
            assert answer.status_code == 200, answer.text


async def test_overview_and_usage_equal_the_ledger(world: Organisation):
    await spend(world)
    who = await signed_in(world.gateway)
    calls, spent, saved = await ledger(world, "mode", "live")
    assert saved > 0
    overview = await who.text("live/overview", period="24h")
    assert f"Spent {dollars(spent)}" in overview
    assert f"Saved by the cache {dollars(saved)}" in overview
    assert f"Calls {calls}" in overview
    usage = await who.text("live/usage", period="24h", group="user")
    assert f"Total {dollars(spent)} {dollars(saved)} {calls}" in usage
    for team, name in ((world.ours, "Ours user"), (world.theirs, "Theirs user")):
        calls, spent, saved = await ledger(world, "user_id", team.user_id)
        assert f"{name} {dollars(spent)} {dollars(saved)} {calls}" in usage


async def test_usage_by_tag_adds_up(world: Organisation):
    await spend(world)
    who = await signed_in(world.gateway)
    page = await who.text("live/usage", period="24h", group="tag:app")
    shown = {f"app{seed}": re.search(rf"app{seed} (\$[\d.]+)", page) for seed in (1, 2, 3, 9)}
    assert all(shown.values()), page
    of_tags = sum(Decimal(found[1].removeprefix("$")) for found in shown.values() if found)
    _, spent, _ = await ledger(world, "mode", "live")
    assert of_tags == spent - 2 * Decimal("0.065"), "the organisation's first purchases have no tag"


async def test_accounts_statements_and_callers_read_the_same(world: Organisation):
    await spend(world)
    who = await signed_in(world.gateway)
    for path, column, value in (
        (f"teams/{world.ours.id}", "team_id", world.ours.id),
        (f"users/{world.ours.user_id}", "user_id", world.ours.user_id),
        (f"keys/{world.ours.key_id}", "key_id", world.ours.key_id),
    ):
        calls, spent, saved = await ledger(world, column, value)
        page = await who.text(f"live/{path}")
        assert f"Spent this month {dollars(spent)} Saved {dollars(saved)} Calls {calls}" in page, path
    caller = await signed_in(world.gateway, world.ours.key)
    mine = await caller.text("live/mine", period="24h")
    assert f"Spent {dollars(spent)} Saved by the cache {dollars(saved)} Calls {calls}" in mine


async def test_the_chart_says_what_the_ledger_says(world: Organisation):
    await spend(world)
    who = await signed_in(world.gateway)
    _, spent, saved = await ledger(world, "mode", "live")
    page = (await who.get("live/overview", period="24h")).text
    bars = re.findall(r"<title>[^<]*: \$([\d.,]+) spent, \$([\d.,]+) saved</title>", page)
    assert len(bars) == 24
    assert sum(Decimal(cost.replace(",", "")) for cost, _ in bars) == spent
    assert sum(Decimal(gain.replace(",", "")) for _, gain in bars) == saved


async def test_a_receipt_is_the_purchase(world: Organisation):
    await spend(world)
    who = await signed_in(world.gateway)
    [bought] = [
        row
        for row in await world.gateway.generations()
        if row["images"] == 2 and row["user_id"] == world.theirs.user_id
    ]
    page = await who.text(f"live/gallery/{bought['id']}")
    assert f"Cost {dollars(Decimal(bought['cost_usd']))}" in page
    today = dt.datetime.now(dt.UTC)
    assert f"{today.day} {today:%b %Y}" in page
    assert "Num images 2" in page
