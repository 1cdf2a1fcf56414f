"""Administration, on both engines."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway.domain.api_key import Mode, hash_api_key, parse_api_key
from gateway.domain.declaration import LimitEntry
from gateway.domain.limits import Metric, ScopeKind, Window
from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.services.accounts import AccountService, NewKey
from gateway.storage.accounts import User
from gateway.storage.audit import EventFilter, list_events
from gateway.storage.changes import look
from gateway.storage.database import Database, now_ms

PEPPER = b"pepper-of-the-tests"
ACTOR = "admin"


@pytest.fixture
def told() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def accounts(database: Database, told: list[tuple[str, str]]) -> AccountService:
    return AccountService(
        database,
        [PEPPER],
        ["flux-pro", "flux-dev"],
        notify=lambda kind, object_id: told.append((kind, object_id)),
    )


@pytest.fixture
async def user(accounts: AccountService) -> User:
    return await accounts.create_user(actor=ACTOR, name="Ada", email="ada@example.com")


@pytest.fixture
async def key(accounts: AccountService, user: User) -> NewKey:
    return await accounts.create_key(
        actor=ACTOR, user_id=user.id, name="ci", mode=Mode.TEST, models=["flux-pro"], labels={"env": "ci"}
    )


async def test_a_key_is_well_formed_and_only_its_hash_is_stored(database: Database, key: NewKey):
    parsed = parse_api_key(key.text)
    assert parsed is not None
    assert (parsed.prefix, parsed.mode) == (key.key.prefix, Mode.TEST)

    def everything(conn) -> str:
        rows = conn.exec_driver_sql("SELECT * FROM keys").all() + conn.exec_driver_sql("SELECT * FROM audit_log").all()
        return str(rows)

    stored = await database.read(everything)
    assert key.text not in stored
    assert hash_api_key(key.text, PEPPER) in stored


async def test_every_write_is_audited_recorded_and_told(
    database: Database, accounts: AccountService, key: NewKey, told: list[tuple[str, str]]
):
    await accounts.update_key(key.key.id, {"disabled": True}, actor=ACTOR)
    await accounts.delete_key(key.key.id, actor=ACTOR)
    events = await database.read(lambda conn: list_events(conn, EventFilter(object_id=key.key.id)))
    assert {event.action for event in events.data} == {"key.create", "key.update", "key.delete"}
    recorded = await database.read(lambda conn: look(conn, None))
    assert [(change.kind, change.object_id) for change in recorded.changes] == told
    assert told == [("key", key.key.id)] * 2  # who holds what was created read it after that


async def test_a_refused_write_leaves_no_trace(
    database: Database, accounts: AccountService, told: list[tuple[str, str]]
):
    with pytest.raises(InvalidRequest, match="no user"):
        await accounts.create_key(actor=ACTOR, user_id="user_nobody")
    assert told == []
    assert (await accounts.list_audit()).data == []
    assert (await accounts.list_keys()).data == []


async def test_an_unknown_model_is_refused_with_the_known_ones(accounts: AccountService, key: NewKey):
    with pytest.raises(InvalidRequest, match="'dall-e' here; the models are: flux-dev, flux-pro"):
        await accounts.create_key(actor=ACTOR, user_id=key.key.user_id, models=["flux-pro", "dall-e"])
    with pytest.raises(InvalidRequest, match="dall-e"):
        await accounts.update_key(key.key.id, {"models": ["dall-e"]}, actor=ACTOR)


async def test_an_expiry_in_the_past_is_refused(accounts: AccountService, key: NewKey):
    with pytest.raises(InvalidRequest, match="in the past"):
        await accounts.create_key(actor=ACTOR, user_id=key.key.user_id, expires_ms=1)
    with pytest.raises(InvalidRequest, match="in the past"):
        await accounts.update_key(key.key.id, {"expires_ms": 1}, actor=ACTOR)


async def test_an_update_sets_what_is_named_and_nothing_else(accounts: AccountService, user: User):
    team = await accounts.create_team(actor=ACTOR, name="Search")
    moved = await accounts.update_user(user.id, {"team_id": team.id, "email": None}, actor=ACTOR)
    assert moved == msgspec.structs.replace(user, team_id=team.id, email=None)
    assert await accounts.update_user(user.id, {}, actor=ACTOR) == moved
    with pytest.raises(InvalidRequest, match="no team"):
        await accounts.update_user(user.id, {"team_id": "team_x"}, actor=ACTOR)


async def test_a_key_is_disabled_and_enabled(accounts: AccountService, key: NewKey):
    assert (await accounts.update_key(key.key.id, {"disabled": True}, actor=ACTOR)).disabled_ms is not None
    assert (await accounts.update_key(key.key.id, {"disabled": False}, actor=ACTOR)).disabled_ms is None


async def test_deleting_a_user_deletes_its_keys(accounts: AccountService, key: NewKey):
    await accounts.delete_user(key.key.user_id, actor=ACTOR)
    with pytest.raises(NotFound):
        await accounts.get_key(key.key.id)
    events = await accounts.list_audit(EventFilter(object_id=key.key.id))
    assert events.data[0].action == "key.delete"


async def test_deleting_a_team_leaves_its_users_in_it(accounts: AccountService):
    team = await accounts.create_team(actor=ACTOR, name="Search")
    assert await accounts.get_team(team.id) == (team, (0, 0))
    member = await accounts.create_user(actor=ACTOR, name="Bob", team_id=team.id)
    keys = [await accounts.create_key(actor=ACTOR, user_id=member.id) for _ in range(3)]
    await accounts.update_key(keys[0].key.id, {"disabled": True}, actor=ACTOR)
    await accounts.delete_key(keys[1].key.id, actor=ACTOR)
    assert await accounts.get_team(team.id) == (team, (1, 1))
    await accounts.delete_team(team.id, actor=ACTOR)
    assert (await accounts.get_user(member.id)).team_id == team.id


async def test_a_user_of_a_deleted_team_gets_no_key_until_it_is_moved(accounts: AccountService, key: NewKey):
    team = await accounts.create_team(actor=ACTOR, name="Search")
    await accounts.update_user(key.key.user_id, {"team_id": team.id}, actor=ACTOR)
    await accounts.delete_team(team.id, actor=ACTOR)
    assert (await accounts.get_key(key.key.id)).team_deleted_ms is not None
    with pytest.raises(Conflict, match=f"user update {key.key.user_id} --team"):
        await accounts.create_key(actor=ACTOR, user_id=key.key.user_id)
    with pytest.raises(Conflict, match="team of Ada was deleted"):
        await accounts.rotate_key(key.key.id, actor=ACTOR)
    await accounts.update_user(key.key.user_id, {"team_id": None}, actor=ACTOR)
    assert (await accounts.create_key(actor=ACTOR, user_id=key.key.user_id)).key.team_deleted_ms is None
    assert await accounts.get_key(key.key.id) == key.key


async def test_keys_are_listed_by_user_and_mode(accounts: AccountService, key: NewKey):
    other = await accounts.create_user(actor=ACTOR, name="Bob")
    live = await accounts.create_key(actor=ACTOR, user_id=other.id)
    assert (await accounts.list_keys(mode=Mode.LIVE)).data == [live.key]
    assert (await accounts.list_keys(user_id=key.key.user_id)).data == [key.key]
    assert (await accounts.list_keys(user_id=other.id, mode=Mode.TEST)).data == []


async def test_a_rotation_copies_the_key_and_its_limits_and_ends_the_old_one(
    database: Database, accounts: AccountService, key: NewKey
):
    entry = LimitEntry(Metric.IMAGES, Window.DAY, "5", (80, 100))
    await accounts.put_limits(ScopeKind.KEY, key.key.id, [entry], actor=ACTOR)
    new = await accounts.rotate_key(key.key.id, actor=ACTOR, overlap_s=60)
    old, now = await accounts.get_key(key.key.id), await database.read(now_ms)
    assert old.rotated_to == new.key.id
    assert now < (old.expires_ms or 0) <= now + 60_000
    for name in ("user_id", "name", "mode", "models", "labels", "expires_ms"):
        assert getattr(new.key, name) == getattr(key.key, name)
    [limit] = await accounts.get_limits(ScopeKind.KEY, new.key.id)
    assert (limit.amount, limit.alert_at) == (5, (80, 100))


async def test_a_rotation_never_lengthens_the_old_keys_life(database: Database, accounts: AccountService, user: User):
    expires_ms = await database.read(now_ms) + 60_000
    old = await accounts.create_key(actor=ACTOR, user_id=user.id, expires_ms=expires_ms)
    await accounts.rotate_key(old.key.id, actor=ACTOR)
    assert (await accounts.get_key(old.key.id)).expires_ms == expires_ms


async def test_of_two_rotations_at_once_one_is_refused(accounts: AccountService, key: NewKey):
    calls = (accounts.rotate_key(key.key.id, actor=ACTOR) for _ in range(2))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {NewKey, InvalidRequest}


async def test_a_key_out_of_use_is_not_rotated(accounts: AccountService, key: NewKey):
    await accounts.update_key(key.key.id, {"disabled": True}, actor=ACTOR)
    with pytest.raises(InvalidRequest, match="no longer works"):
        await accounts.rotate_key(key.key.id, actor=ACTOR)


async def test_limits_are_replaced_and_read_at_their_scope(accounts: AccountService, user: User):
    entries = [
        LimitEntry(Metric.COST_USD, Window.MONTH, "10.5"),
        LimitEntry(Metric.CONCURRENCY, Window.NONE, "3"),
    ]
    put = await accounts.put_limits(ScopeKind.USER, user.id, entries, actor=ACTOR)
    assert [(limit.metric, limit.window, limit.amount) for limit in put] == [
        ("concurrency", "", 3),
        ("cost_usd", "month", 10_500_000),
    ]
    await accounts.put_limits(ScopeKind.USER, user.id, [], actor=ACTOR)
    assert await accounts.get_limits(ScopeKind.USER, user.id) == []


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([LimitEntry(Metric.CONCURRENCY, Window.DAY, "3")], "it has no window"),
        ([LimitEntry(Metric.IMAGES, Window.NONE, "3")], "needs a window"),
        ([LimitEntry(Metric.IMAGES, Window.DAY, "1.5")], "whole number"),
        ([LimitEntry(Metric.IMAGES, Window.DAY, "-1")], "whole number"),
        ([LimitEntry(Metric.COST_USD, Window.DAY, "ten")], "amount of dollars"),
        ([LimitEntry(Metric.IMAGES, Window.DAY, "1", (80, 80))], "ascending"),
        ([LimitEntry(Metric.IMAGES, Window.DAY, "1", (0,))], "from 1 to 100"),
        ([LimitEntry(Metric.IMAGES, Window.DAY, "1", (50, 101))], "from 1 to 100"),
        ([LimitEntry(Metric.IMAGES, Window.DAY, "1", (1, 2, 3, 4, 5, 6))], "up to 5"),
        ([LimitEntry(Metric.REQUESTS, Window.HOUR, "1", (80,))], "within the hour"),
        ([LimitEntry(Metric.CONCURRENCY, Window.NONE, "1", (80,))], "within the hour"),
        ([LimitEntry(Metric.IMAGES, Window.DAY, "1"), LimitEntry(Metric.IMAGES, Window.DAY, "2")], "twice"),
    ],
)
async def test_limits_that_make_no_sense_are_refused(
    accounts: AccountService, user: User, entries: list[LimitEntry], message: str
):
    with pytest.raises(InvalidRequest, match=message):
        await accounts.put_limits(ScopeKind.USER, user.id, entries, actor=ACTOR)


@pytest.mark.parametrize("scope", ScopeKind)
async def test_limits_of_an_unknown_scope_are_not_found(accounts: AccountService, scope: ScopeKind):
    with pytest.raises(NotFound):
        await accounts.put_limits(scope, "nobody", [], actor=ACTOR)
    with pytest.raises(NotFound):
        await accounts.get_limits(scope, "nobody")


async def test_limits_put_at_once_by_two_never_collide(accounts: AccountService, user: User):
    entries = [LimitEntry(Metric.IMAGES, Window.DAY, "5")]
    calls = (accounts.put_limits(ScopeKind.USER, user.id, entries, actor=ACTOR) for _ in range(8))
    assert all(len(found) == 1 for found in await asyncio.gather(*calls))
