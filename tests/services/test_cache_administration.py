"""Purging and retention, on both engines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.errors import StorageFailed
from gateway.services import cache_administration
from gateway.services.answers import AnswerCache
from gateway.services.cache_administration import CacheAdministration
from gateway.storage import tables, tables_accounts, usage_log, usage_partitions, webhooks
from gateway.storage.database import Database, now_ms, open_database
from gateway.storage.generations import Intent
from gateway.storage.image_index import CLAIMED_FOR_MS
from gateway.storage.images import LocalImageStore
from gateway.storage.response_cache import MemoryAnswers, PurgeFilter
from gateway.storage.shared_answers import NothingShared
from tests.support.ledger import Books, flight, stored_image, usage_row

DAY_MS = 86_400_000
HOUR_MS = 3_600_000


class World:
    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.books = Books(database)
        self.memory = MemoryAnswers(100_000)
        self.answers = AnswerCache(database, self.memory, NothingShared())
        self.images = LocalImageStore(folder / "images")
        self.told: list[tuple[str, str]] = []
        self.cache = CacheAdministration(database, self.memory, self.images, self._notify)

    def _notify(self, kind: str, object_id: str) -> None:
        self.told.append((kind, object_id))
        self.answers.on_change(kind, object_id)

    async def publish(self, fingerprint: str, sha256: str = "", **options: Any) -> Intent:
        """An entry with its picture, also held in memory."""
        sha256 = sha256 or f"{fingerprint}{'0' * 60}"
        made = await self.books.reserve(flight(fingerprint), accepts=lambda _entry, _now: False)
        await self.books.send(made.id)
        await self.books.answer(made.id)
        await self.images.put(sha256, b"picture")
        entry = await self.books.publish(made, stored_image(sha256), **options)
        if entry is not None:
            self.answers.keep(entry)
        return made

    async def age(self, table: sa.Table, column: str, by_ms: int, **where: Any) -> None:
        changed = table.update().filter_by(**where).values({column: table.c[column] - by_ms})
        await self.database.write(lambda conn: conn.execute(changed))

    async def retain(self, images_days: int | None = None, requests_days: int | None = None) -> None:
        await self.cache.apply_retention(images_days=images_days, requests_days=requests_days)

    async def entries(self) -> set[str]:
        return {row["fingerprint"] for row in await self.books.rows(tables.cache_entries)}


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return World(database, tmp_path)


async def test_a_purge_takes_entries_pictures_and_memory_tells_others_and_is_recorded(world: World):
    gone, kept = await world.publish("a"), await world.publish("b")
    chosen = PurgeFilter(fingerprint="a")
    assert await world.cache.purge(chosen, actor="admin", detail={"fingerprint": "a"}) == 1
    assert (await world.entries(), world.memory.get("a")) == ({"b"}, None)
    assert world.memory.get("b") is not None
    removed = {row["generation_id"]: row["removed_ms"] is not None for row in await world.books.rows(tables.images)}
    assert removed == {gone.id: True, kept.id: False}
    changes = [(row["kind"], row["object_id"]) for row in await world.books.rows(tables.changes)]
    assert changes == world.told == [("cache", "a")]
    [act] = await world.books.rows(tables_accounts.audit_log)
    assert (act["actor"], act["action"], act["detail"]) == ("admin", "cache.purge", {"fingerprint": "a", "entries": 1})


async def test_a_purge_of_nothing_is_recorded_too(world: World):
    assert await world.cache.purge(PurgeFilter(model="none"), actor="admin", detail={}) == 0
    assert len(await world.books.rows(tables_accounts.audit_log)) == 1


async def test_more_than_a_batch_is_purged_whole(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache_administration, "_BATCH", 2)
    for name in "abcde":
        await world.publish(name)
    assert await world.cache.purge(PurgeFilter(), actor="admin", detail={}) == 5
    assert await world.entries() == set()


async def test_contents_count_sql_and_memory(world: World):
    await world.publish("a")
    await world.publish("b")
    world.memory.drop("b")
    contents = await world.cache.stats()
    assert (contents.entries, contents.memory_entries) == (2, 1)
    assert contents.memory_bytes == world.memory.size_bytes > 0


async def test_expired_entries_go_with_their_pictures_and_lasting_ones_stay(world: World):
    await world.publish("expired", ttl_ms=1000)
    await world.publish("fresh", ttl_ms=DAY_MS)
    await world.publish("lasting")
    await world.age(tables.cache_entries, "expires_ms", 2000, fingerprint="expired")
    await world.retain()
    assert await world.entries() == {"fresh", "lasting"}
    assert world.memory.get("expired") is None


async def test_old_pictures_go_in_batches_with_their_entries_or_without(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache_administration, "_BATCH", 2)
    for number in range(6):
        await world.publish(f"fp-{number}", storable=number % 3 == 0)
    await world.age(tables.images, "created_ms", 10 * DAY_MS)
    await world.publish("young")
    await world.retain(images_days=9)
    left = [row for row in await world.books.rows(tables.images) if row["removed_ms"] is None]
    assert (len(left), await world.entries()) == (1, {"young"})


async def test_bytes_go_an_hour_after_the_last_picture_of_them(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache_administration, "_DELETED_AT_ONCE", 1)
    shared, own, also = "aa" * 32, "bb" * 32, "cc" * 32
    await world.publish("a", shared)
    await world.publish("b", shared)
    await world.publish("c", own)
    await world.publish("d", also)
    for name in "acd":
        await world.cache.purge(PurgeFilter(fingerprint=name), actor="admin", detail={})
    await world.retain()
    assert await world.images.contains(own)
    await world.age(tables.blobs, "dead_since_ms", HOUR_MS + 1000)
    await world.retain()
    there = [await world.images.contains(sha256) for sha256 in (shared, own, also)]
    assert there == [True, False, False]


async def test_bytes_that_could_not_be_deleted_are_deleted_later(world: World, tmp_path: Path):
    sha256 = "aa" * 32
    await world.publish("a", sha256)
    await world.cache.purge(PurgeFilter(), actor="admin", detail={})
    await world.age(tables.blobs, "dead_since_ms", HOUR_MS + 1000)
    (tmp_path / "images").rename(tmp_path / "aside")
    (tmp_path / "images").write_text("no folder")
    with pytest.raises(StorageFailed):
        await world.retain()
    (tmp_path / "images").unlink()
    (tmp_path / "aside").rename(tmp_path / "images")
    await world.age(tables.blobs, "deleting_since_ms", CLAIMED_FOR_MS + 1000)
    await world.retain()
    assert not await world.images.contains(sha256)
    assert await world.books.rows(tables.blobs) == []


async def test_old_requests_and_prompts_are_forgotten_and_what_was_spent_is_not(world: World):
    old, young = await world.publish("a"), await world.publish("b")
    now = await world.database.read(now_ms)
    rows = [usage_row(at_ms=now - 31 * DAY_MS), usage_row(at_ms=now)]
    await world.database.write(lambda conn: usage_log.add(conn, rows))
    before = await world.books.rows(tables.usage_hourly)
    await world.age(tables.generations, "created_ms", 31 * DAY_MS, id=old.id)
    await world.retain(requests_days=30)
    prompts = {row["id"]: row["request"] for row in await world.books.rows(tables.generations)}
    assert prompts == {old.id: None, young.id: young.request}
    ids = {row["id"] for row in await world.books.rows(tables.usage_log)}
    assert rows[1].id in ids
    assert rows[0].id not in ids
    assert await world.books.rows(tables.usage_hourly) == before
    assert {row["cost_micro_usd"] for row in await world.books.rows(tables.generations)} == {65_000}


async def test_old_deliveries_are_forgotten_but_those_under_way(world: World):
    def add(conn: sa.Connection) -> set[str]:
        now = now_ms(conn)
        made = {
            (status, days): webhooks.add_delivery(conn, "whk_1", None, now_ms=now - days * DAY_MS, due_ms=now).id
            for status in ("delivered", "failed", "pending")
            for days in (1, 31)
        }
        for (status, _), delivery_id in made.items():
            webhooks.update_delivery(conn, delivery_id, {"status": status})
        return {made[kind] for kind in made if kind[1] == 1 or kind[0] == "pending"}

    stay = await world.database.write(add)
    await world.retain(requests_days=30)
    assert {row["id"] for row in await world.books.rows(tables_accounts.deliveries)} == stay


async def test_without_retention_everything_stays(world: World):
    old = await world.publish("a")
    for table, column in (
        (tables.images, "created_ms"),
        (tables.generations, "created_ms"),
        (tables.usage_log, "at_ms"),
    ):
        await world.age(table, column, 10_000 * DAY_MS)
    await world.retain()
    assert await world.entries() == {"a"}
    assert (await world.books.row(old.id))["request"] == old.request
    assert len(await world.books.rows(tables.usage_log)) == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_months_are_made_ahead_and_dropped_whole(world: World):
    await world.retain()
    made = await world.database.read(usage_partitions.partitions)
    assert len(made) >= usage_partitions.MONTHS_AHEAD + 1
    old = usage_row(at_ms=0)
    await world.database.write(lambda conn: conn.exec_driver_sql(LONG_AGO))
    await world.database.write(lambda conn: usage_log.add(conn, [old]))
    await world.retain(requests_days=30)
    assert await world.database.read(usage_partitions.partitions) == made
    assert await world.books.rows(tables.usage_log) == []


LONG_AGO = "CREATE TABLE usage_log_1970_01 PARTITION OF usage_log FOR VALUES FROM ('0') TO ('2678400000')"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_role_that_may_not_change_the_log_still_keeps_to_retention(world: World):
    """Old rows go one by one, and new ones are kept without a month."""
    await world.database.write(lambda conn: conn.exec_driver_sql(LONG_AGO))
    now = await world.database.read(now_ms)
    rows = [usage_row(at_ms=0), usage_row(at_ms=now)]
    await world.database.write(lambda conn: usage_log.add(conn, rows))
    await world.database.write(lambda conn: [conn.exec_driver_sql(each) for each in LIMITED_ROLE])
    url = world.database.url
    limited = open_database(url.set(username="limited"))
    cache = CacheAdministration(limited, world.memory, world.images, lambda _kind, _object_id: None)
    await cache.apply_retention(images_days=None, requests_days=30)
    await limited.close()
    assert [row["id"] for row in await world.books.rows(tables.usage_log)] == [rows[1].id]
    await world.database.write(lambda conn: [conn.exec_driver_sql(each) for each in LIMITED_ROLE_GOES])


LIMITED_ROLE = (
    "CREATE ROLE limited LOGIN",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO limited",
)
LIMITED_ROLE_GOES = ("DROP TABLE usage_log_1970_01", "DROP OWNED BY limited", "DROP ROLE limited")


async def test_what_a_killed_process_left_in_the_middle_of_a_picture_goes(world: World, tmp_path: Path):
    await world.publish("a", "a" * 64)
    left = tmp_path / "images" / ".aside" / "half-a-picture"
    left.write_bytes(b"pict")
    os.utime(left, (0, 0))
    await world.retain()
    assert not left.exists()
    assert world.images.names() == ["a" * 64]
