"""Authentication from memory and from SQL, on both engines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.domain.api_key import Mode, new_api_key
from gateway.domain.caller import Caller
from gateway.domain.declaration import LimitEntry
from gateway.domain.limits import DefaultLimit, Metric, ScopeKind, Window
from gateway.errors import InvalidApiKey, KeyDisabled, LedgerUnavailable
from gateway.services.accounts import AccountService, NewKey
from gateway.services.callers import CallerDirectory
from gateway.services.changes import ChangeFollower
from gateway.storage.database import Database, T, Work
from tests.support.waiting import until

PEPPER = b"pepper-of-the-tests"
ACTOR = "admin"
DEFAULTS = (DefaultLimit(Metric.REQUESTS, Window.MINUTE, 600), DefaultLimit(Metric.COST_USD, Window.MONTH, 100_000_000))


class Watched:
    """The real database, counting its reads; `during` runs once rows are read, before they are given."""

    def __init__(self, database: Database) -> None:
        self.url = database.url
        self.reads = 0
        self.during: Callable[[], None] = lambda: None
        self.write = database.write
        self.close = database.close
        self.check = database.check
        self._database = database

    async def read(self, work: Work[T]) -> T:
        self.reads += 1
        result = await self._database.read(work)
        self.during()
        return result


class World:
    """A directory and the service that changes what it holds, joined as the gateway joins them."""

    def __init__(self, database: Database, **options) -> None:
        self.watched = Watched(database)
        self.clock_s = time.time()
        self.follower = ChangeFollower(database)
        self.accounts = AccountService(database, [PEPPER], ["flux-pro"], notify=self.follower.notify)
        self.callers = CallerDirectory(
            self.watched, [b"newer-pepper", PEPPER], DEFAULTS, clock=lambda: self.clock_s, **options
        )
        self.follower.subscribe(self.callers.invalidate, forget_all=self.callers.clear)

    async def new_key(self, *, team_id: str | None = None, **options) -> NewKey:
        user = await self.accounts.create_user(actor=ACTOR, name="Ada", team_id=team_id, labels={"a": "user", "u": "1"})
        return await self.accounts.create_key(actor=ACTOR, user_id=user.id, **options)


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


async def test_a_caller_carries_all_that_the_hot_path_needs(world: World):
    team = await world.accounts.create_team(actor=ACTOR, name="Search", labels={"a": "team", "t": "1"})
    key = await world.new_key(team_id=team.id, mode=Mode.TEST, models=["flux-pro"], labels={"a": "key"})
    caller = await world.callers.authenticate(key.text)
    assert (caller.key_id, caller.user_id, caller.team_id) == (key.key.id, key.key.user_id, team.id)
    assert (caller.mode, caller.models) == (Mode.TEST, frozenset({"flux-pro"}))
    assert caller.labels == {"a": "key", "u": "1", "t": "1"}


async def test_limits_are_the_defaults_and_those_of_team_user_and_key(world: World):
    team = await world.accounts.create_team(actor=ACTOR, name="Search")
    key = await world.new_key(team_id=team.id)
    own = {
        (ScopeKind.TEAM, team.id): LimitEntry(Metric.IMAGES, Window.DAY, "9"),
        (ScopeKind.USER, key.key.user_id): LimitEntry(Metric.REQUESTS, Window.MINUTE, "5"),
        (ScopeKind.KEY, key.key.id): LimitEntry(Metric.CONCURRENCY, Window.NONE, "2"),
    }
    for (scope, scope_id), entry in own.items():
        await world.accounts.put_limits(scope, scope_id, [entry], actor=ACTOR)
    caller = await world.callers.authenticate(key.text)
    assert [(limit.name, limit.amount) for limit in caller.limits] == [
        ("team-images-day", 9),
        ("user-cost_usd-month", 100_000_000),
        ("user-requests-minute", 5),
        ("key-concurrency", 2),
    ]


@pytest.mark.parametrize("token", ["", "sk-nonsense", "dk_live_short", "dk_live_" + "a" * 50, "dk_live_" + "é" * 50])
async def test_garbage_costs_no_sql(world: World, token: str):
    with pytest.raises(InvalidApiKey):
        await world.callers.authenticate(token)
    assert world.watched.reads == 0


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("dk_live_short", "Was it copied whole"),
        ("dk_admin_" + "a" * 50, "not a caller's key"),
        ("the-admin-key-of-a-configuration", "not a caller's key: those begin with dk_live_ or dk_test_"),
    ],
)
async def test_a_key_of_another_kind_is_told_from_one_cut_short(world: World, token: str, said: str):
    with pytest.raises(InvalidApiKey, match=said):
        await world.callers.authenticate(token)


async def test_a_second_call_costs_no_sql(world: World):
    key = await world.new_key()
    assert world.callers.known(key.text) is None
    caller = await world.callers.authenticate(key.text)
    assert world.callers.known(key.text) is caller
    assert await world.callers.authenticate(key.text) is caller
    assert world.watched.reads == 1


async def test_an_unknown_key_is_refused_and_asked_for_again(world: World):
    for _ in range(2):
        with pytest.raises(InvalidApiKey, match="not known"):
            await world.callers.authenticate(new_api_key(Mode.LIVE).text)
    assert world.watched.reads == 2


@pytest.mark.parametrize("held", [True, False])
async def test_a_wrong_secret_behind_a_known_prefix_is_refused(
    world: World, held: bool, monkeypatch: pytest.MonkeyPatch
):
    key = await world.new_key()
    if held:
        await world.callers.authenticate(key.text)
    forged = _with_prefix(key.key.prefix, monkeypatch)
    for _ in range(2):
        with pytest.raises(InvalidApiKey):
            await world.callers.authenticate(forged)
    assert (await world.callers.authenticate(key.text)).key_id == key.key.id


def _with_prefix(prefix: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A well-formed key with this prefix and another secret."""
    public = prefix.removeprefix("dk_live_")
    with monkeypatch.context() as patch:
        patch.setattr("gateway.domain.api_key.random_base62", lambda length: public + "x" * (length - len(public)))
        return new_api_key(Mode.LIVE).text


async def test_a_disabled_key_is_refused_from_memory_and_from_sql(world: World):
    key = await world.new_key()
    await world.callers.authenticate(key.text)
    await world.accounts.update_key(key.key.id, {"disabled": True}, actor=ACTOR)
    world.clock_s += 1
    for _ in range(2):
        with pytest.raises(KeyDisabled):
            await world.callers.authenticate(key.text)
    with pytest.raises(KeyDisabled):
        world.callers.known(key.text)
    assert world.watched.reads == 2


async def test_a_deleted_key_user_or_team_is_refused_and_named(world: World):
    said = {"key": r"\.\.\. was deleted\. Ask", "user": "with its user", "team": "team of its user was deleted"}
    for kind in ("key", "user", "team"):
        team = await world.accounts.create_team(actor=ACTOR, name="Search")
        key = await world.new_key(team_id=team.id)
        await world.callers.authenticate(key.text)
        ids = {"key": key.key.id, "user": key.key.user_id, "team": team.id}
        await getattr(world.accounts, f"delete_{kind}")(ids[kind], actor=ACTOR)
        world.clock_s = time.time() + 1
        with pytest.raises(KeyDisabled, match=said[kind]):
            await world.callers.authenticate(key.text)


async def test_a_key_of_a_deleted_team_works_again_once_its_user_is_moved(world: World):
    team = await world.accounts.create_team(actor=ACTOR, name="Search")
    key = await world.new_key(team_id=team.id)
    await world.accounts.delete_team(team.id, actor=ACTOR)
    world.clock_s = time.time() + 1
    with pytest.raises(KeyDisabled, match="move the user to another team"):
        await world.callers.authenticate(key.text)
    await world.accounts.update_user(key.key.user_id, {"team_id": None}, actor=ACTOR)
    assert (await world.callers.authenticate(key.text)).team_id is None


async def test_a_key_held_in_memory_expires_by_itself(world: World):
    key = await world.new_key(expires_ms=int((world.clock_s + 60) * 1000))
    await world.callers.authenticate(key.text)
    world.clock_s += 61
    with pytest.raises(InvalidApiKey, match="expired"):
        world.callers.known(key.text)


async def test_a_rotated_key_works_until_its_overlap_ends(world: World):
    old = await world.new_key()
    new = await world.accounts.rotate_key(old.key.id, actor=ACTOR, overlap_s=60)
    for text in (old.text, new.text):
        await world.callers.authenticate(text)
    world.clock_s += 70
    assert world.callers.known(new.text) is not None
    with pytest.raises(InvalidApiKey):
        world.callers.known(old.text)


async def test_a_change_by_another_process_is_followed(database: Database, world: World):
    elsewhere = World(database)
    key = await elsewhere.new_key()
    await world.follower.poll()
    await world.callers.authenticate(key.text)
    await elsewhere.accounts.update_user(key.key.user_id, {"labels": {"new": "1"}}, actor=ACTOR)
    assert world.callers.known(key.text) is not None
    await world.follower.poll()
    assert world.callers.known(key.text) is None
    assert (await world.callers.authenticate(key.text)).labels == {"new": "1"}


async def test_a_change_drops_only_those_whom_it_concerns(world: World):
    one, other = await world.new_key(), await world.new_key()
    for key in (one, other):
        await world.callers.authenticate(key.text)
    world.callers.invalidate("user", one.key.user_id)
    assert world.callers.known(one.text) is None
    assert world.callers.known(other.text) is not None


@pytest.fixture
async def reading(world: World) -> AsyncIterator[World]:
    """A world whose directory reads again whom a change dropped."""
    task = asyncio.create_task(world.callers.run())
    yield world
    task.cancel()


async def known_again(world: World, key: NewKey) -> Caller:
    async def known() -> Caller | None:
        return world.callers.known(key.text)

    found = await until(known)
    assert found is not None
    return found


async def test_whom_a_change_dropped_is_known_again_before_it_calls(reading: World):
    key, unused = await reading.new_key(), await reading.new_key()
    await reading.callers.authenticate(key.text)
    for name in ("one", "two"):
        await reading.accounts.update_user(key.key.user_id, {"labels": {name: "1"}}, actor=ACTOR)
        assert reading.callers.known(key.text) is None  # never the old one
        assert (await known_again(reading, key)).labels == {name: "1"}
    assert reading.watched.reads == 3
    assert reading.callers.known(unused.text) is None


async def test_a_key_that_a_change_deleted_is_refused_without_sql(reading: World):
    key = await reading.new_key()
    await reading.callers.authenticate(key.text)
    await reading.accounts.delete_key(key.key.id, actor=ACTOR)
    reading.clock_s = time.time() + 1

    async def refused() -> bool:
        try:
            return reading.callers.known(key.text) is not None
        except KeyDisabled:
            return True

    assert await until(refused)
    assert reading.watched.reads == 2


async def test_what_changes_while_it_is_read_again_is_read_once_more(reading: World):
    key = await reading.new_key()
    await reading.callers.authenticate(key.text)

    def change_once() -> None:
        reading.watched.during = lambda: None
        reading.callers.invalidate("key", key.key.id)

    reading.watched.during = change_once
    reading.callers.invalidate("key", key.key.id)
    await known_again(reading, key)
    assert reading.watched.reads == 3


async def test_with_sql_gone_nobody_is_read_again_until_the_next_change(reading: World):
    key = await reading.new_key()
    await reading.callers.authenticate(key.text)
    tried = asyncio.Event()

    def fail() -> None:
        tried.set()
        raise LedgerUnavailable("gone")

    reading.watched.during = fail
    reading.callers.invalidate("key", key.key.id)
    await tried.wait()
    reading.watched.during = lambda: None
    assert reading.callers.known(key.text) is None
    await reading.callers.authenticate(key.text)
    reading.callers.invalidate("key", key.key.id)
    await known_again(reading, key)


async def test_what_was_read_before_an_invalidation_is_not_kept(world: World):
    key = await world.new_key()
    world.watched.during = lambda: world.callers.invalidate("key", key.key.id)
    assert (await world.callers.authenticate(key.text)).key_id == key.key.id
    assert world.callers.known(key.text) is None


async def test_memory_is_bounded_and_keeps_the_last_used(database: Database):
    world = World(database, capacity=2)
    first, second, third = [await world.new_key() for _ in range(3)]
    await world.callers.authenticate(first.text)
    await world.callers.authenticate(second.text)
    assert world.callers.known(first.text) is not None
    await world.callers.authenticate(third.text)
    assert world.callers.known(second.text) is None
    assert world.callers.known(first.text) is not None
    world.callers.clear()
    assert world.callers.known(first.text) is None
