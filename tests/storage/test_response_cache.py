"""The cache: entries in SQL, on both engines, and the answers held in memory."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.storage import image_index, response_cache, tables
from gateway.storage.database import Database
from gateway.storage.image_index import Removal
from gateway.storage.response_cache import Entry, MemoryAnswers, PurgeFilter
from tests.support.ledger import Books, stored_answer, stored_image


def entry(fingerprint: str = "fp", *, created_ms: int = 1000, expires_ms: int | None = None, n: int = 1) -> Entry:
    images = tuple(stored_image(f"{fingerprint}-{i}") for i in range(n))
    return Entry(fingerprint, stored_answer(f"gen-{fingerprint}", *images), created_ms, expires_ms)


async def store(database: Database, made: Entry, **changes: Any) -> Entry:
    owner = {"mode": "live", "model": "flux-pro", "user_id": "user_1"} | changes

    def work(conn):
        image_index.add(conn, made.answer.generation_id, made.answer.images, now_ms=made.created_ms)
        response_cache.put(conn, made, **owner)

    await database.write(work)
    return made


async def find(database: Database, fingerprint: str) -> Entry | None:
    return await database.read(lambda conn: response_cache.find(conn, fingerprint))


async def purge(database: Database, limit: int = 1000, **chosen: Any) -> Removal:
    return await database.write(
        lambda conn: response_cache.purge(conn, PurgeFilter(**chosen), now_ms=5000, limit=limit)
    )


async def test_an_entry_is_found_as_it_was_put(database: Database):
    made = await store(database, entry(n=3, expires_ms=9000))
    assert await find(database, "fp") == made
    assert await find(database, "another") is None


async def test_a_newer_entry_replaces_the_older(database: Database):
    await store(database, entry())
    newer = Entry("fp", stored_answer("gen-newer", stored_image("new")), 2000, None)
    await store(database, newer, user_id="user_2")
    assert await find(database, "fp") == newer
    assert (await purge(database, user_id="user_1")).fingerprints == []
    assert (await purge(database, user_id="user_2")).fingerprints == ["fp"]


@pytest.mark.parametrize(
    ("chosen", "gone"),
    [
        ({"fingerprint": "a"}, {"a"}),
        ({"model": "flux-dev"}, {"b"}),
        ({"user_id": "user_2"}, {"c"}),
        ({"before_ms": 1000}, set()),
        ({"before_ms": 1001}, {"a"}),
        ({"expired_at_ms": 4000}, {"b"}),
        ({"user_id": "user_1", "model": "flux-dev"}, {"b"}),
        ({"user_id": "user_2", "model": "flux-dev"}, set()),
        ({}, {"a", "b", "c"}),
    ],
)
async def test_a_purge_takes_what_matches_every_field_and_the_pictures_with_it(
    database: Database, chosen: dict[str, Any], gone: set[str]
):
    await store(database, entry("a", created_ms=1000))
    await store(database, entry("b", created_ms=2000, expires_ms=4000), model="flux-dev")
    await store(database, entry("c", created_ms=3000, expires_ms=4001), user_id="user_2")
    assert set((await purge(database, **chosen)).fingerprints) == gone
    for fingerprint in ("a", "b", "c"):
        assert (await find(database, fingerprint) is None) is (fingerprint in gone)
    removed = {row["sha256"] for row in await Books(database).rows(tables.images) if row["removed_ms"] == 5000}
    dead = {row["sha256"] for row in await Books(database).rows(tables.blobs) if row["dead_since_ms"] == 5000}
    assert removed == dead == {f"{fingerprint}-0" for fingerprint in gone}


async def test_a_purge_goes_in_batches(database: Database):
    for number in range(5):
        await store(database, entry(f"fp-{number}"))
    counts = [(await purge(database, limit=2)).generations for _ in range(4)]
    assert counts == [2, 2, 1, 0]


async def test_contents_are_told_by_mode_and_model(database: Database):
    await store(database, entry("a", created_ms=1000))
    await store(database, entry("b", created_ms=2000))
    await store(database, entry("c"), mode="test", model="flux-dev")
    told = await database.read(response_cache.stats)
    assert [(row["mode"], row["model"], row["entries"]) for row in told] == [
        ("live", "flux-pro", 2),
        ("test", "flux-dev", 1),
    ]
    assert (told[0]["oldest_ms"], told[0]["newest_ms"]) == (1000, 2000)


# -- memory ------------------------------------------------------------------------------------------------------------


def test_memory_is_bounded_in_bytes_bodies_included():
    memory = MemoryAnswers(20_000)
    for number in range(100):
        held = memory.put(entry(f"fp-{number}", n=number % 3 + 1))
        memory.set_body(held, b"x" * 700)
        assert memory.size_bytes <= 20_000
        kept = [memory._held[key] for key in memory._held]
        assert memory.size_bytes == sum(each.size_bytes for each in kept)
    assert 5 < len(memory) < 100


def test_the_least_recently_used_goes_first():
    memory = MemoryAnswers(3000)
    for name in ("a", "b", "c"):
        memory.put(entry(name))
    memory.get("a")
    memory.put(entry("d"))
    assert [name for name in "abcd" if memory.get(name) is not None] == ["a", "c", "d"]


def test_an_entry_put_again_replaces_the_one_held_and_its_body():
    memory = MemoryAnswers(10_000)
    old = memory.put(entry())
    memory.set_body(old, b"x" * 1000)
    new = memory.put(entry(created_ms=2000))
    assert (memory.get("fp"), len(memory), memory.size_bytes) == (new, 1, 900)
    memory.set_body(old, b"late")
    assert (old.body, new.body, memory.size_bytes) == (b"x" * 1000, None, 900)


def test_a_body_is_kept_once_and_only_while_its_entry_is_held():
    memory = MemoryAnswers(10_000)
    held = memory.put(entry())
    memory.set_body(held, b"first")
    memory.set_body(held, b"second")
    assert (held.body, memory.size_bytes) == (b"first", 1310)
    memory.drop("fp")
    memory.drop("fp")
    memory.set_body(memory.put(entry("other")), b"")
    assert memory.size_bytes == 1300
    memory.clear()
    assert (len(memory), memory.size_bytes) == (0, 0)
