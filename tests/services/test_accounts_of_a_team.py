"""Accounts narrowed to one team, and what the log and the audit log are narrowed to, on both engines."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gateway.domain.declaration import LimitEntry
from gateway.domain.limits import Metric, ScopeKind, Window
from gateway.errors import Forbidden, InvalidRequest, NotFound
from gateway.services.accounts import AccountService
from gateway.storage import call_log, usage_log
from gateway.storage.audit import EventFilter
from gateway.storage.call_log import CallFilter
from gateway.storage.database import Database
from tests.support.ledger import usage_row

ACTOR = "admin"


@dataclass
class World:
    """`mine` sees the first team alone. Ids of both: team, user, key."""

    everything: AccountService
    mine: AccountService
    ours: tuple[str, str, str]
    theirs: tuple[str, str, str]


@pytest.fixture
async def world(database: Database) -> World:
    accounts = AccountService(database, [b"pepper"], ["flux-pro"], notify=lambda _kind, _id: None)
    teams = []
    for name in ("Ours", "Theirs"):
        team = await accounts.create_team(actor=ACTOR, name=name)
        user = await accounts.create_user(actor=ACTOR, name=f"{name} user", team_id=team.id)
        key = await accounts.create_key(actor=ACTOR, user_id=user.id, name=f"{name} key")
        teams.append((team.id, user.id, key.key.id))
    return World(accounts, accounts.within(teams[0][0]), teams[0], teams[1])


async def test_only_the_team_its_users_and_their_keys_are_there(world: World):
    stranger = await world.everything.create_user(actor=ACTOR, name="Of no team")
    mine = world.mine
    lists = [(await page).data for page in (mine.list_teams(), mine.list_users(), mine.list_keys())]
    assert [[row.id for row in rows] for rows in lists] == [[row_id] for row_id in world.ours]
    assert [row.id for row in (await world.everything.list_keys(team_id=world.theirs[0])).data] == [world.theirs[2]]
    assert (await mine.list_keys(team_id=world.theirs[0])).data == []
    assert (await mine.list_users(q="user")).data == (await mine.list_users()).data
    team_id, user_id, key_id = world.theirs
    for call in (mine.get_team(team_id), mine.get_user(user_id), mine.get_key(key_id), mine.get_user(stranger.id)):
        with pytest.raises(NotFound):
            await call


async def test_what_is_not_there_is_not_changed(world: World):
    _, user_id, key_id = world.theirs
    mine, entry = world.mine, LimitEntry(Metric.IMAGES, Window.DAY, "1")
    for call in (
        mine.update_user(user_id, {"name": "x"}, actor=ACTOR),
        mine.delete_user(user_id, actor=ACTOR),
        mine.update_key(key_id, {"name": "x"}, actor=ACTOR),
        mine.rotate_key(key_id, actor=ACTOR),
        mine.delete_key(key_id, actor=ACTOR),
        mine.put_limits(ScopeKind.USER, user_id, [entry], actor=ACTOR),
        mine.put_limits(ScopeKind.KEY, key_id, [entry], actor=ACTOR),
        mine.get_limits(ScopeKind.TEAM, world.theirs[0]),
    ):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(InvalidRequest):
        await mine.create_key(actor=ACTOR, user_id=user_id)
    with pytest.raises(InvalidRequest):
        await mine.create_user(actor=ACTOR, name="x", team_id=world.theirs[0])
    events = (await world.everything.list_audit()).data
    assert {event.action for event in events} == {"team.create", "user.create", "key.create"}


async def test_what_is_there_is_changed_and_stays_in_the_team(world: World):
    team_id, user_id, key_id = world.ours
    mine = world.mine
    assert (await mine.create_user(actor=ACTOR, name="New")).team_id == team_id
    assert (await mine.update_user(user_id, {"name": "x", "team_id": team_id}, actor=ACTOR)).name == "x"
    with pytest.raises(Forbidden):
        await mine.update_user(user_id, {"team_id": None}, actor=ACTOR)
    new = await mine.rotate_key(key_id, actor=ACTOR)
    await mine.put_limits(ScopeKind.KEY, new.key.id, [LimitEntry(Metric.IMAGES, Window.DAY, "1")], actor=ACTOR)
    await mine.delete_key(key_id, actor=ACTOR)
    await mine.delete_user(user_id, actor=ACTOR)
    with pytest.raises(NotFound):
        await world.everything.get_key(new.key.id)


async def test_who_moves_takes_its_keys_along(world: World):
    _, user_id, key_id = world.theirs
    await world.everything.update_user(user_id, {"team_id": world.ours[0]}, actor=ACTOR)
    assert (await world.mine.get_key(key_id)).id == key_id
    await world.everything.update_user(user_id, {"team_id": None}, actor=ACTOR)
    with pytest.raises(NotFound):
        await world.mine.get_key(key_id)


async def test_the_audit_log_of_a_team_is_about_it_or_by_its_administrator(world: World):
    await world.everything.create_team(actor="Tess (adm_1)", name="By Tess")
    await world.everything.delete_key(world.ours[2], actor=ACTOR)

    async def seen(**chosen: str) -> set[str]:
        page = await world.everything.list_audit(EventFilter(team_id=world.ours[0], **chosen))
        return {event.action for event in page.data}

    assert await seen() == {"team.create", "user.create", "key.create", "key.delete"}
    assert await seen(actor="adm_1") == set()
    assert await seen(own_id="adm_1", actor="adm_1") == {"team.create"}
    assert await seen(object_id=world.theirs[1]) == set()
    assert await seen(action="key.delete") == {"key.delete"}


async def test_the_log_of_a_team_is_what_was_called_in_it(database: Database):
    rows = [usage_row(team_id="team_1"), usage_row(team_id=None), usage_row(team_id="team_2", user_id="user_2")]
    await database.write(lambda conn: usage_log.add(conn, rows))

    async def found(**chosen: str) -> list[str]:
        page = await database.read(lambda conn: call_log.list_calls(conn, CallFilter(**chosen), limit=9, cursor=None))  # type: ignore[arg-type]
        return [row["id"] for row in page.data]

    assert await found(team_id="team_1") == [rows[0].id]
    assert await found(team_id="team_1", user_id="user_1") == [rows[0].id]
    assert await found(team_id="team_1", user_id="user_2") == []
    assert await found(team_id="\0") == []
