"""Calls found in the usage log: whatever is asked, what is found is what is there, on both engines."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.domain.api_key import Mode
from gateway.domain.usage_row import UsageRow
from gateway.services.accounts import AccountService
from gateway.storage import call_log, tables, usage_log
from gateway.storage.call_log import CallFilter
from gateway.storage.database import Database
from gateway.storage.paging import Page
from gateway.storage.usage_totals import DAY_MS
from tests.storage.test_usage_queries import END_MS, some_rows
from tests.support.ledger import AT_MS, HOUR_MS, usage_row


async def fill(database: Database, rows: list[UsageRow]) -> None:
    await database.write(lambda conn: usage_log.add(conn, rows))


async def page(database: Database, asked: CallFilter, *, limit: int = 100, cursor: str | None = None) -> Page[Any]:
    return await database.read(lambda conn: call_log.list_calls(conn, asked, limit=limit, cursor=cursor))


async def found(database: Database, asked: CallFilter, *, limit: int) -> list[str]:
    """The ids of all pages."""
    ids: list[str] = []
    cursor = None
    while True:
        got = await page(database, asked, limit=limit, cursor=cursor)
        assert len(got.data) == limit or got.next_cursor is None
        ids += [row["id"] for row in got.data]
        cursor = got.next_cursor
        if cursor is None:
            return ids


def matches(row: UsageRow, asked: CallFilter) -> bool:
    names = ("user_id", "team_id", "model", "provider", "outcome", "mode", "code")
    return (
        all(getattr(asked, name) in {None, getattr(row, name)} for name in names)
        and asked.status_class in {None, row.status // 100}
        and (asked.code is None or row.status >= 400)  # codes are those of refusals
        and (asked.generation_id is None or (row.generation_id == asked.generation_id and row.outcome != "hit"))
        and (asked.tag is None or (row.tags or {}).get(asked.tag[0]) == asked.tag[1])
        and (asked.from_ms or 0) <= row.at_ms < (asked.to_ms or END_MS * 2)
    )


CHOICES: dict[str, list[Any]] = {
    "user_id": ["user_1", "user_2", "nobody"],
    "team_id": ["team_1", "team_2", "\0"],
    "model": ["flux-pro", "flux-dev", "\0"],
    "provider": ["aimlapi", "none"],
    "outcome": ["hit", "failed"],
    "mode": ["live", "test"],
    "status_class": [2, 4, 5],
    "code": ["provider_error", "nothing"],
    "generation_id": ["gen_1"],
    "tag": [("app", "a"), ("app", "b"), ("env", "x"), ("env", "a"), ("\0", "x")],
    "from_ms": [AT_MS + DAY_MS + 5 * HOUR_MS],
    "to_ms": [AT_MS + 2 * DAY_MS + 7],
}


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_asked_every_call_that_matches_is_found_newest_first(database: Database, seed: int):
    chance = random.Random(seed)
    rows = some_rows(seed=seed)
    await fill(database, rows)
    if seed % 2:
        day_ms = (AT_MS // DAY_MS + 2) * DAY_MS
        await database.write(lambda conn: conn.execute(tables.usage_tags_since.insert().values(day_ms=day_ms)))
    newest_first = sorted(rows, key=lambda row: (row.at_ms, row.id), reverse=True)
    for _ in range(40):
        names = chance.sample(sorted(CHOICES), chance.randrange(4))
        asked = CallFilter(**{name: chance.choice(CHOICES[name]) for name in names})
        wanted = [row.id for row in newest_first if matches(row, asked)]
        assert await found(database, asked, limit=chance.choice([7, 1000])) == wanted, asked


async def test_days_with_calls_of_many_users_are_read_whole(database: Database):
    rows = [usage_row(at_ms=AT_MS + place, user_id=f"user_{place}", model="rare") for place in range(60)]
    await fill(database, [*rows, usage_row(user_id="user_5")])
    assert await found(database, CallFilter(model="rare"), limit=25) == [row.id for row in reversed(rows)]


async def test_a_keys_calls_are_found_among_those_of_its_user(database: Database):
    accounts = AccountService(database, [b"pepper"], ["flux-pro"], notify=lambda _kind, _id: None)
    user = await accounts.create_user(actor="a test", name="Ada")
    key = (await accounts.create_key(actor="a test", user_id=user.id, mode=Mode.LIVE)).key
    mine = usage_row(user_id=user.id, key_id=key.id)
    await fill(database, [mine, usage_row(user_id=user.id), usage_row(model="other", user_id=user.id, key_id=key.id)])
    assert await found(database, CallFilter(key_id=key.id, model="flux-pro"), limit=10) == [mine.id]
    assert len(await found(database, CallFilter(key_id=key.id), limit=10)) == 2
