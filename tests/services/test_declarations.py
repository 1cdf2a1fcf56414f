"""Accounts as a file declares them, on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.domain.api_key import Mode, hash_api_key, new_api_key
from gateway.domain.declaration import Declaration, DeclaredKey, DeclaredTeam, DeclaredUser, LimitEntry
from gateway.domain.limits import Limit, Metric, ScopeKind, Window
from gateway.errors import Conflict, InvalidRequest
from gateway.services.accounts import AccountService
from gateway.services.callers import CallerDirectory
from gateway.services.declarations import Change, DeclarationService
from gateway.storage.audit import list_events
from gateway.storage.database import Database

PEPPER = b"pepper-of-the-tests"
MODELS = ["flux-dev", "flux-pro"]
BUDGET = LimitEntry(Metric.COST_USD, Window.MONTH, "500")
SPAN = LimitEntry(Metric.REQUESTS, Window.MINUTE, "60")
ADA_KEY = new_api_key(Mode.LIVE)


def declared_key(name: str = "ci", **changes: Any) -> DeclaredKey:
    made = DeclaredKey(
        name=name, mode=Mode.LIVE, prefix=ADA_KEY.prefix, hash=hash_api_key(ADA_KEY.text, PEPPER), limits=[SPAN]
    )
    return replace(made, **changes)


TEAM = DeclaredTeam(name="search", labels={"cost_center": "42"}, limits=[BUDGET])
ADA = DeclaredUser(name="ada", email="ada@example.com", team="search", keys=[declared_key()])
FILE = Declaration(source="accounts.yaml", teams=[TEAM], users=[ADA])


class World:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.told: list[tuple[str, str]] = []
        self.declarations = DeclarationService(database, MODELS, notify=self.tell)
        self.accounts = AccountService(database, [PEPPER], MODELS, notify=self.tell)
        self.callers = CallerDirectory(database, [PEPPER], [])

    def tell(self, kind: str, object_id: str) -> None:
        self.told.append((kind, object_id))
        self.callers.invalidate(kind, object_id)

    async def apply(self, file: Declaration = FILE, *, prune: bool = False, dry_run: bool = False) -> Sequence[Change]:
        return await self.declarations.apply(file, actor="admin", prune=prune, dry_run=dry_run)

    async def said(self, file: Declaration = FILE, **options: bool) -> list[tuple[str, str, str, tuple[str, ...]]]:
        made = await self.apply(file, **options)
        return [(change.action, change.kind, change.name, tuple(change.fields)) for change in made]

    async def user_id(self) -> str:
        [user] = (await self.accounts.list_users()).data
        return user.id


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


async def test_a_file_makes_what_it_declares_and_its_keys_work(world: World):
    assert await world.said() == [
        ("create", "team", "search", ()),
        ("create", "user", "ada", ()),
        ("create", "key", "ada/ci", ()),
    ]
    caller = await world.callers.authenticate(ADA_KEY.text)
    [team] = (await world.accounts.list_teams()).data
    assert (caller.team_id, caller.labels, caller.user_id) == (team.id, {"cost_center": "42"}, await world.user_id())
    assert caller.limits == (
        Limit(ScopeKind.TEAM, team.id, Metric.COST_USD, Window.MONTH, 500_000_000),
        Limit(ScopeKind.KEY, caller.key_id, Metric.REQUESTS, Window.MINUTE, 60),
    )


async def test_applied_again_it_changes_nothing_and_tells_nobody(world: World):
    await world.apply()
    world.told.clear()
    assert await world.apply() == []
    assert world.told == []
    events = await world.database.read(list_events)
    assert len(events.data) == 3


async def test_a_limit_that_differs_in_what_is_told_of_it_alone_differs(world: World):
    await world.apply()
    told = replace(FILE, teams=[replace(TEAM, limits=[BUDGET._replace(alert_at=(80, 100))])])
    assert await world.said(told) == [("update", "team", "search", ("limits",))]
    assert await world.said(told) == []


async def test_what_differs_is_changed_and_named(world: World):
    await world.apply()
    changed = replace(
        FILE,
        teams=[replace(TEAM, limits=[BUDGET, LimitEntry(Metric.IMAGES, Window.DAY, "10")])],
        users=[replace(ADA, email=None, team=None, keys=[declared_key(models=["flux-dev"], labels={"a": "b"})])],
    )
    assert await world.said(changed) == [
        ("update", "team", "search", ("limits",)),
        ("update", "user", "ada", ("email", "team_id")),
        ("update", "key", "ada/ci", ("labels", "models")),
    ]
    caller = await world.callers.authenticate(ADA_KEY.text)
    assert (caller.team_id, caller.models) == (None, frozenset({"flux-dev"}))
    assert await world.said() == [
        ("update", "team", "search", ("limits",)),
        ("update", "user", "ada", ("email", "team_id")),
        ("update", "key", "ada/ci", ("labels", "models")),
    ]


async def test_a_dry_run_says_the_same_and_does_nothing(world: World):
    assert [change.action for change in await world.apply(dry_run=True)] == ["create"] * 3
    assert (await world.accounts.list_users()).data == []
    assert world.told == []
    await world.apply()
    assert await world.apply(dry_run=True) == []


async def test_what_is_not_declared_any_more_stays_until_it_is_pruned(world: World):
    await world.apply()
    nothing = replace(FILE, teams=[], users=[])
    extra = [("extra", "key", "ada/ci", ()), ("extra", "user", "ada", ()), ("extra", "team", "search", ())]
    assert await world.said(nothing) == extra
    await world.callers.authenticate(ADA_KEY.text)
    deleted = [("delete", kind, name, fields) for _, kind, name, fields in extra]
    assert await world.said(nothing, prune=True, dry_run=True) == deleted
    assert await world.said(nothing, prune=True) == deleted
    assert await world.said(nothing, prune=True) == []
    assert (await world.accounts.list_users()).data == []


async def test_pruning_a_user_ends_keys_that_were_made_otherwise_too(world: World):
    await world.apply()
    made = await world.accounts.create_key(actor="admin", user_id=await world.user_id())
    told = await world.said(replace(FILE, users=[]), prune=True)
    assert ("delete", "key", f"ada/{made.key.id}", ()) in told
    assert (await world.accounts.list_keys()).data == []


async def test_pruning_touches_nothing_that_the_file_did_not_declare(world: World):
    other = await world.accounts.create_user(actor="admin", name="grace")
    await world.apply(replace(FILE, source="other.yaml", users=[replace(ADA, name="linus", keys=[])], teams=[TEAM]))
    await world.apply(replace(FILE, teams=[], users=[]), prune=True)
    assert {user.name for user in (await world.accounts.list_users()).data} == {"linus", other.name}


async def test_what_a_file_declares_is_read_only_elsewhere_and_the_refusal_names_it(world: World):
    await world.apply()
    user_id = await world.user_id()
    [key] = (await world.accounts.list_keys()).data
    [team] = (await world.accounts.list_teams()).data
    accounts = world.accounts
    for refused in (
        lambda: accounts.update_team(team.id, {"name": "x"}, actor="admin"),
        lambda: accounts.delete_team(team.id, actor="admin"),
        lambda: accounts.update_user(user_id, {"name": "x"}, actor="admin"),
        lambda: accounts.delete_user(user_id, actor="admin"),
        lambda: accounts.update_key(key.id, {"disabled": True}, actor="admin"),
        lambda: accounts.rotate_key(key.id, actor="admin"),
        lambda: accounts.delete_key(key.id, actor="admin"),
        lambda: accounts.put_limits(ScopeKind.USER, user_id, [BUDGET], actor="admin"),
    ):
        with pytest.raises(Conflict, match=r"declared in accounts\.yaml: change it there"):
            await refused()
    assert await world.apply() == []
    await accounts.create_key(actor="admin", user_id=user_id)  # a user may have more keys than the file says


async def test_an_account_that_is_there_is_adopted_by_its_name(world: World):
    there = await world.accounts.create_user(actor="admin", name="ada")
    key = await world.accounts.create_key(actor="admin", user_id=there.id, name="old")
    mine = declared_key(prefix=key.key.prefix, hash=hash_api_key(key.text, PEPPER))
    told = await world.said(replace(FILE, users=[replace(ADA, keys=[mine])]))
    assert told == [
        ("create", "team", "search", ()),
        ("adopt", "user", "ada", ()),
        ("update", "user", "ada", ("email", "team_id")),
        ("adopt", "key", "ada/ci", ()),
        ("update", "key", "ada/ci", ("name", "limits")),
    ]
    assert await world.user_id() == there.id
    assert (await world.callers.authenticate(key.text)).key_id == key.key.id


async def test_a_name_that_two_accounts_have_can_not_be_adopted(world: World):
    for _ in range(2):
        await world.accounts.create_user(actor="admin", name="ada")
    with pytest.raises(InvalidRequest, match="There are 2 users called ada"):
        await world.apply()
    assert (await world.accounts.list_teams()).data == []


async def test_two_files_can_not_declare_one_account(world: World):
    await world.apply()
    with pytest.raises(Conflict, match=r"team search is declared in accounts\.yaml already"):
        await world.apply(replace(FILE, source="other.yaml"))


async def test_another_key_by_the_same_name_ends_the_old_one(world: World):
    await world.apply()
    fresh = new_api_key(Mode.LIVE)
    mine = declared_key(prefix=fresh.prefix, hash=hash_api_key(fresh.text, PEPPER))
    told = await world.said(replace(FILE, users=[replace(ADA, keys=[mine])]))
    assert told == [("delete", "key", "ada/ci", ()), ("create", "key", "ada/ci", ())]
    await world.callers.authenticate(fresh.text)
    with pytest.raises(Exception, match="was deleted"):
        await world.callers.authenticate(ADA_KEY.text)


async def test_a_key_hashed_with_a_new_pepper_stays_the_same_key(world: World):
    await world.apply()
    [before] = (await world.accounts.list_keys()).data
    told = await world.said(replace(FILE, users=[replace(ADA, keys=[declared_key(hash="0" * 64)])]))
    assert told == [("update", "key", "ada/ci", ("hash",))]
    assert [key.id for key in (await world.accounts.list_keys()).data] == [before.id]


async def test_a_key_that_was_deleted_does_not_come_back(world: World):
    await world.apply()
    await world.apply(replace(FILE, users=[replace(ADA, keys=[])]), prune=True)
    with pytest.raises(Conflict, match=r"ada/ci \(dk_live_\w+\) was deleted once, and does not come back"):
        await world.apply()
    fresh = new_api_key(Mode.LIVE)
    await world.apply(
        replace(
            FILE,
            users=[replace(ADA, keys=[declared_key(prefix=fresh.prefix, hash=hash_api_key(fresh.text, PEPPER))])],
        )
    )
    await world.callers.authenticate(fresh.text)


async def test_a_key_by_another_name_stays_the_same_key(world: World):
    await world.apply()
    [before] = (await world.accounts.list_keys()).data
    renamed = replace(FILE, users=[replace(ADA, keys=[declared_key("deploy")])])
    assert await world.said(renamed) == [("update", "key", "ada/deploy", ("name",))]
    assert await world.said(renamed, prune=True) == []
    assert [key.id for key in (await world.accounts.list_keys()).data] == [before.id]


async def test_a_key_of_one_user_can_not_be_had_by_another(world: World):
    await world.apply()
    with pytest.raises(Conflict, match="another key with the prefix"):
        await world.apply(replace(FILE, users=[replace(ADA, keys=[]), replace(ADA, name="bob")]), prune=True)
    assert await world.apply() == []


async def test_names_with_slashes_name_one_key_each(world: World):
    other = new_api_key(Mode.LIVE)
    another = declared_key("b/c", prefix=other.prefix, hash=hash_api_key(other.text, PEPPER))
    users = [replace(ADA, name="a/b", keys=[declared_key("c")]), replace(ADA, name="a", keys=[another])]
    file = replace(FILE, users=users)
    made = [name for _, kind, name, _ in await world.said(file) if kind == "key"]
    assert len(set(made)) == 2
    assert await world.said(file, prune=True) == []


async def test_the_same_file_twice_at_once_makes_everything_once(world: World):
    found = await asyncio.gather(*(world.apply() for _ in range(4)), return_exceptions=True)
    assert all(isinstance(each, Conflict) or not isinstance(each, BaseException) for each in found)
    assert await world.apply() == []
    assert len((await world.accounts.list_users()).data) == 1


@pytest.mark.parametrize(
    ("file", "told"),
    [
        (replace(FILE, teams=[TEAM, TEAM]), "teams: search stands there twice"),
        (replace(FILE, users=[ADA, replace(ADA, keys=[])]), "users: ada stands there twice"),
        (replace(FILE, teams=[]), r"users\[ada\]\.team: search is no team of this file; it has: none"),
        (replace(FILE, users=[replace(ADA, keys=[declared_key(hash="x")])]), r"keys\[ci\]\.hash: a hash is 64 digits"),
        (
            replace(FILE, users=[replace(ADA, keys=[declared_key(mode=Mode.TEST)])]),
            r"keys\[ci\]\.prefix: the prefix of a test key is dk_test_",
        ),
        (
            replace(FILE, users=[replace(ADA, keys=[declared_key(models=["nope"])])]),
            "models: there is no 'nope' here; the models are: flux-dev, flux-pro",
        ),
        (
            replace(FILE, users=[replace(ADA, limits=[LimitEntry(Metric.IMAGES, Window.DAY, "x")])]),
            "is not an amount of images",
        ),
        (
            replace(FILE, users=[replace(ADA, keys=[declared_key(), declared_key("b")])]),
            "keys with prefix: dk_live_.* stands there twice",
        ),
    ],
)
async def test_a_file_that_makes_no_sense_is_refused_whole(world: World, file: Declaration, told: str):
    with pytest.raises(InvalidRequest, match=told):
        await world.apply(file)
    assert (await world.accounts.list_teams()).data == []
