"""The account stores, on both engines."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest
import sqlalchemy as sa

from gateway.domain.ids import new_id
from gateway.domain.limits import Limit, Metric, ScopeKind, Window
from gateway.errors import InvalidRequest, NotFound
from gateway.storage import limits
from gateway.storage.accounts import TEAMS, USERS, Team, User
from gateway.storage.database import Database
from gateway.storage.paging import Page


def team(**changes) -> Team:
    made = Team(id=new_id("team"), name="Search", labels={}, created_ms=1_000)
    return msgspec.structs.replace(made, **changes)


def user(**changes) -> User:
    made = User(id=new_id("user"), name="Ada", email=None, team_id=None, labels={}, created_ms=1_000)
    return msgspec.structs.replace(made, **changes)


async def insert_teams(database: Database, teams: list[Team]) -> None:
    await database.write(lambda conn: [TEAMS.insert(conn, each) for each in teams])


async def page(database: Database, **options) -> Page[Team]:
    return await database.read(lambda conn: TEAMS.list(conn, **options))


async def test_what_was_inserted_is_read_back(database: Database):
    kept = user(name="Zoë 🖼", labels={"cost-centre": "x\\u0000y"})
    await database.write(lambda conn: USERS.insert(conn, kept))
    assert await database.read(lambda conn: USERS.require(conn, kept.id)) == kept


@pytest.mark.parametrize("row_id", ["team_nobody", "", "a\x00b", "x" * 500, "'; DROP TABLE teams"])
async def test_an_unknown_or_impossible_id_is_not_found(database: Database, row_id: str):
    assert await database.read(lambda conn: TEAMS.get(conn, row_id)) is None
    with pytest.raises(NotFound, match="no team"):
        await database.read(lambda conn: TEAMS.require(conn, row_id))


async def test_a_deleted_row_is_gone_for_everyone(database: Database):
    gone, kept = team(), team()
    await insert_teams(database, [gone, kept])
    await database.write(lambda conn: TEAMS.delete(conn, gone.id))
    assert (await page(database)).data == [kept]
    with pytest.raises(NotFound):
        await database.write(lambda conn: TEAMS.delete(conn, gone.id))


async def test_pages_hold_every_row_once_newest_first_though_rows_arrive_meanwhile(database: Database):
    teams = [team(created_ms=1_000 + position // 3) for position in range(10)]
    await insert_teams(database, teams)
    first = await page(database, limit=4)
    await insert_teams(database, [team(created_ms=9_000)])
    second = await page(database, limit=4, cursor=first.next_cursor)
    third = await page(database, limit=4, cursor=second.next_cursor)
    assert [first.has_more, second.has_more, third.has_more] == [True, True, False]
    found = [*first.data, *second.data, *third.data]
    assert found == sorted(teams, key=lambda each: (each.created_ms, each.id), reverse=True)


async def test_a_full_last_page_has_no_more(database: Database):
    await insert_teams(database, [team(), team()])
    assert not (await page(database, limit=2)).has_more


@pytest.mark.parametrize("cursor", ["", "nonsense", "////", "MQ", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OS5h", "ü"])
async def test_a_bad_cursor_is_refused(database: Database, cursor: str):
    with pytest.raises(InvalidRequest, match="cursor"):
        await page(database, cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_limit_out_of_range_is_refused(database: Database, limit: int):
    with pytest.raises(InvalidRequest, match="1 to 1000"):
        await page(database, limit=limit)


async def test_filters_choose_and_impossible_values_choose_nothing(database: Database):
    one = team()
    mine, other = user(team_id=one.id), user()
    await database.write(lambda conn: [USERS.insert(conn, each) for each in (mine, other)])
    for value, expected in ((one.id, [mine]), ("team_x", []), ("a\x00", [])):
        found = await database.read(partial(USERS.list, team_id=value))
        assert found.data == expected


async def test_limits_are_replaced_whole_and_read_for_many_scopes(database: Database):
    first = Limit(ScopeKind.USER, "user_1", Metric.IMAGES, Window.DAY, 5)
    second = Limit(ScopeKind.USER, "user_1", Metric.CONCURRENCY, Window.NONE, 2)
    teams_own = Limit(ScopeKind.TEAM, "team_1", Metric.COST_USD, Window.MONTH, 10**15)

    def put(scope: ScopeKind, scope_id: str, *wanted: Limit):
        return lambda conn: limits.put_limits(conn, scope, scope_id, wanted)

    def get(conn: sa.Connection) -> list[Limit]:
        return limits.get_limits(conn, [(ScopeKind.TEAM, "team_1"), (ScopeKind.USER, "user_1")])

    await database.write(put(ScopeKind.USER, "user_1", first, second))
    await database.write(put(ScopeKind.TEAM, "team_1", teams_own))
    assert await database.read(get) == [second, teams_own, first]
    await database.write(put(ScopeKind.USER, "user_1"))
    assert await database.read(get) == [teams_own]
