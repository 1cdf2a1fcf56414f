"""Erasing a user, on both engines: what names or shows a person goes, what was paid and how much was used stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.domain.api_key import Mode
from gateway.errors import Conflict, NotFound
from gateway.services import erasure as erasing
from gateway.services.accounts import AccountService
from gateway.services.erasure import Erased, Erasure
from gateway.services.statements import Statements
from gateway.storage import declared, idempotency, orphans, tables, tables_accounts, usage_log
from gateway.storage.database import Database
from gateway.storage.generations import Intent
from gateway.storage.idempotency import Claim
from gateway.storage.tables_accounts import sessions
from tests.support.ledger import PRICE, Books, flight, intent, stored_image, usage_row

SECRET = "Grace Hopper"
"""In everything that may name a person: nothing of it may be left."""
LABELS = {"who": SECRET}


class World:
    """A user who is to be erased, and another one. `told`: what memories heard."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.books = Books(database)
        self.told: list[tuple[str, str]] = []
        self.accounts = AccountService(database, [b"pepper"], [], notify=lambda _kind, _id: None)
        self.statements = Statements(database, flush=self._flush)
        self.erasure = Erasure(
            database,
            notify=lambda *change: self.told.append(change),
            flush=self._flush,
            longest_purchase_s=180,
        )

    async def _flush(self) -> None: ...

    async def set_up(self) -> None:
        made = await self.accounts.create_user(
            actor="admin", name=SECRET, email="grace.hopper@example.com", labels=LABELS
        )
        key = await self.accounts.create_key(actor="admin", user_id=made.id, name=SECRET, labels=LABELS)
        await self.accounts.update_user(made.id, {"name": f"{SECRET} II", "labels": LABELS}, actor="admin")
        self.user_id, self.key_id, self.key_prefix = made.id, key.key.id, key.key.prefix

    def row(self, **changes: Any) -> Any:
        mine = {"user_id": self.user_id, "key_id": self.key_id, "tags": {"for": SECRET}, "labels": LABELS}
        return usage_row(**(mine | changes))

    def intent(self, fingerprint: str = "", **changes: Any) -> Intent:
        make = flight if fingerprint else intent
        made = make(*([fingerprint] if fingerprint else []), user_id=self.user_id, key_id=self.key_id, **changes)
        request = {"prompt": f"A portrait of {SECRET}"}
        return replace(made, request=request, usage=self.row(generation_id=made.id))

    async def buy(self, made: Intent, sha256: str = "aa" * 32) -> Intent:
        await self.books.reserve(made, accepts=lambda _entry, _now: False)
        await self.books.send(made.id)
        await self.books.answer(made.id)
        await self.books.publish(made, stored_image(sha256))
        return made

    async def erase(self) -> Erased:
        return await self.erasure.erase(self.user_id, actor="Olga (adm_1)")

    async def everything(self) -> str:
        """All that SQL holds, as text."""

        def read(conn: sa.Connection) -> str:
            return str([conn.exec_driver_sql(f"SELECT * FROM {table}").all() for table in tables.metadata.tables])

        return await self.database.read(read)


@pytest.fixture
async def world(database: Database) -> World:
    made = World(database)
    await made.set_up()
    return made


async def test_nothing_that_names_the_person_is_left(world: World):
    await world.buy(world.intent("fp-1"))
    await world.buy(world.intent())
    failed = await world.books.reserve(world.intent())
    await world.books.send(failed.id)
    await world.books.fail(failed)
    await world.books.update(failed.id, error={"code": "invalid_request", "message": f"No {SECRET} here"})
    late = [world.row(outcome="hit"), world.row(at_ms=usage_row().at_ms + 5, tags=None)]
    await world.database.write(lambda conn: usage_log.add(conn, late))
    await world.statements.close("2026-01", Mode.LIVE, actor="admin")
    claim = Claim(world.key_id, SECRET, "hash")
    await world.database.write(lambda conn: idempotency.make(conn, claim, failed.id, now_ms=1))
    seated = {"token_hash": "x", "kind": "caller", "subject_id": world.key_prefix, "proof": SECRET, "csrf": "y"}
    await world.database.write(
        lambda conn: conn.execute(sessions.insert().values(**seated, created_ms=1, expires_ms=2))
    )
    assert SECRET in await world.everything()
    erased = await world.erase()
    assert (erased.keys, erased.generations, erased.entries) == (1, 3, 1)
    left = await world.everything()
    assert SECRET not in left
    assert "grace.hopper" not in left
    assert "fp-1" not in {row["fingerprint"] for row in await world.books.rows(tables.generations)}


async def test_money_and_numbers_stay(world: World):
    await world.buy(world.intent("fp-1"))
    unknown = world.intent()
    await world.books.reserve(unknown)
    await world.books.send(unknown.id)
    await world.books.lose(unknown)
    before = await world.books.rows(tables.usage_daily)
    rows = await world.books.rows(tables.usage_log)
    await world.erase()
    assert await world.books.rows(tables.usage_daily) == before
    cleared = [row | {"tags": None, "labels": None} for row in rows]
    assert await world.books.rows(tables.usage_log) == cleared
    assert await world.books.broken_rules() == []
    assert await world.books.settle(unknown.id, PRICE)  # what it comes to is still found out
    assert await world.books.broken_rules() == []
    [last] = [row for row in await world.books.rows(tables.usage_log) if row["outcome"] == "settlement"]
    assert (last["tags"], last["user_id"]) == (None, world.user_id)


async def test_pictures_and_entries_go_and_memories_hear_of_it(world: World):
    theirs = await world.buy(world.intent("fp-1"), "aa" * 32)
    await world.buy(world.intent(), "bb" * 32)
    other = await world.buy(flight("fp-2"), "aa" * 32)
    await world.erase()
    images = {row["generation_id"]: row["removed_ms"] for row in await world.books.rows(tables.images)}
    assert images[theirs.id] is not None
    assert images[other.id] is None
    assert [row["fingerprint"] for row in await world.books.rows(tables.cache_entries)] == ["fp-2"]
    dead = {row["sha256"]: row["dead_since_ms"] is not None for row in await world.books.rows(tables.blobs)}
    assert dead == {"aa" * 32: False, "bb" * 32: True}  # bytes that another user's picture shares stay
    assert world.told == [("user", world.user_id), ("cache", "fp-1")]
    recorded = {(row["kind"], row["object_id"]) for row in await world.books.rows(tables.changes)}
    assert recorded >= set(world.told)


async def test_the_user_and_its_keys_are_gone_under_a_pseudonym(world: World):
    erased = await world.erase()
    [user] = await world.books.rows(tables_accounts.users)
    assert user["name"] == erased.name == f"erased user {world.user_id[-6:]}"
    assert (user["email"], user["labels"], user["deleted_ms"]) == (None, {}, user["erased_ms"])
    [key] = await world.books.rows(tables_accounts.keys)
    assert (key["name"], key["labels"], key["deleted_ms"] is not None) == (None, {}, True)
    with pytest.raises(NotFound):
        await world.accounts.get_user(world.user_id)


async def test_the_audit_log_keeps_who_did_what(world: World):
    await world.erase()
    events = list(reversed((await world.accounts.list_audit()).data))
    assert [event.action for event in events] == ["user.create", "key.create", "user.update", "user.erase"]
    assert [event.actor for event in events] == ["admin", "admin", "admin", "Olga (adm_1)"]
    assert events[0].detail == {"name": "(erased)", "team_id": None}
    assert events[2].detail == {"name": "(erased)", "labels": "(erased)"}


async def test_erasing_again_changes_nothing(world: World):
    await world.buy(world.intent("fp-1"))
    first = await world.erase()
    before = {name: await world.books.rows(table) for name, table in tables.metadata.tables.items()}
    again = await world.erase()
    assert (again.name, again.generations, again.entries, again.calls) == (first.name, 0, 0, 0)
    after = {name: await world.books.rows(table) for name, table in tables.metadata.tables.items()}
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"users", "audit_log", "changes"}  # when, by whom
    [user], [was] = after["users"], before["users"]
    assert user | {"erased_ms": 0} == was | {"erased_ms": 0}


async def test_a_deleted_user_is_erased_too(world: World):
    await world.buy(world.intent())
    await world.accounts.delete_user(world.user_id, actor="admin")
    assert (await world.erase()).generations == 1
    assert SECRET not in await world.everything()


async def test_many_purchases_and_calls_go_in_batches(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(erasing, "_GENERATIONS_AT_ONCE", 2)
    monkeypatch.setattr(erasing, "_CALLS_AT_ONCE", 3)
    for number in range(5):
        await world.buy(world.intent(f"fp-{number}"), f"{number:064}")
    rows = [world.row(at_ms=usage_row().at_ms + number // 4, outcome="hit") for number in range(12)]
    await world.database.write(lambda conn: usage_log.add(conn, rows))
    erased = await world.erase()
    assert (erased.generations, erased.entries, erased.calls) == (5, 5, 17)
    assert SECRET not in await world.everything()


@pytest.mark.parametrize("state", ["reserved", "sent", "answered"])
async def test_a_purchase_under_way_is_waited_for(world: World, state: str):
    made = await world.books.reserve(world.intent("fp-1"))
    if state != "reserved":
        await world.books.send(made.id)
    if state == "answered":
        await world.books.answer(made.id)
    before = await world.everything()
    with pytest.raises(Conflict, match=f"{made.id} of this user is under way, for 2[34]. s more") as refused:
        await world.erase()
    assert refused.value.retry_after_s
    assert "Delete the user" in refused.value.message
    assert await world.everything() == before
    await world.accounts.delete_user(world.user_id, actor="admin")
    with pytest.raises(Conflict, match="under way") as refused:
        await world.erase()
    assert "elete" not in refused.value.message


async def test_pictures_that_could_not_be_fetched_are_given_up_with_their_cost(world: World):
    made = await world.books.reserve(world.intent("fp-1"))
    await world.books.send(made.id)
    await world.books.answer(made.id)
    await world.database.write(lambda conn: orphans.disown(conn, made.id, lease_owner="me"))
    assert (await world.erase()).generations == 1
    row = await world.books.row(made.id)
    assert (row["status"], row["cost_micro_usd"], row["request"]) == ("failed", PRICE, None)
    [call] = await world.books.rows(tables.usage_log)
    assert (call["outcome"], call["status"], call["cost_micro_usd"]) == ("failed", 502, PRICE)
    assert await world.books.broken_rules() == []
    assert SECRET not in await world.everything()


async def test_what_comes_late_is_erased_late(world: World):
    """A replica that had not heard, a journal that was away, and the answer of an unknown purchase."""
    unknown = await world.books.reserve(world.intent())
    await world.books.send(unknown.id)
    await world.books.lose(unknown)
    await world.erase()
    await world.buy(world.intent("fp-late"))
    await world.books.answer(unknown.id)
    await world.books.publish(unknown, stored_image("cc" * 32))
    await world.database.write(lambda conn: usage_log.add(conn, [world.row(outcome="hit", cost_micro_usd=0)]))
    under_way = await world.books.reserve(world.intent("fp-slow"))
    await world.erasure.follow_up()
    assert (await world.books.row(under_way.id))["request"] is not None
    await world.books.fail(under_way)
    await world.erasure.follow_up()
    assert SECRET not in await world.everything()
    assert all(row["removed_ms"] for row in await world.books.rows(tables.images))
    assert ("cache", "fp-late") in world.told
    assert await world.books.broken_rules() == []


async def test_only_those_erased_lately_are_followed(world: World, database: Database):
    await world.erase()
    await world.buy(world.intent())
    long_ago = sa.update(tables_accounts.users).values(erased_ms=1)
    await database.write(lambda conn: conn.execute(long_ago))
    await world.erasure.follow_up()
    assert SECRET in await world.everything()
    assert (await world.erase()).generations == 1


async def test_others_are_left_alone(world: World):
    other = await world.accounts.create_user(actor="admin", name="Bob", email="bob@example.com", labels={"a": "b"})
    made = await world.buy(flight("fp-2", user_id=other.id))
    row = usage_row(user_id=other.id, tags={"app": "x"}, labels={"a": "b"})
    await world.database.write(lambda conn: usage_log.add(conn, [row]))
    before = await world.books.row(made.id)
    await world.erase()
    assert await world.books.row(made.id) == before
    assert await world.accounts.get_user(other.id) == other
    [logged] = [each for each in await world.books.rows(tables.usage_log) if each["id"] == row.id]
    assert (logged["tags"], logged["labels"]) == ({"app": "x"}, {"a": "b"})


async def test_who_is_declared_in_a_file_or_unknown_is_refused(world: World):
    for nobody in ("user_none", "\0", ""):
        with pytest.raises(NotFound):
            await world.erasure.erase(nobody, actor="admin")
    await world.database.write(lambda conn: declared.declare(conn, "accounts.yaml", ("user", "grace"), world.user_id))
    with pytest.raises(Conflict, match=r"declared in accounts\.yaml"):
        await world.erase()
    assert (await world.accounts.get_user(world.user_id)).email
