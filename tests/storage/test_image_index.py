"""Which pictures share which bytes, and when bytes die, on both engines."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from gateway.domain.answer import StoredImage
from gateway.errors import StorageFailed
from gateway.storage import image_index, tables
from gateway.storage.database import Database
from gateway.storage.image_index import CLAIMED_FOR_MS, DEAD_FOR_MS, Claim, Removal
from tests.support.ledger import Books, stored_image

NOW_MS = 10_000_000_000
LATER_MS = NOW_MS + DEAD_FOR_MS + 1


class Index:
    def __init__(self, database: Database) -> None:
        self.database = database

    async def add(self, generation_id: str, *images: StoredImage, now_ms: int = NOW_MS) -> None:
        await self.database.write(lambda conn: image_index.add(conn, generation_id, images, now_ms=now_ms))

    async def remove(self, *generation_ids: str, now_ms: int = NOW_MS) -> Removal:
        return await self.database.write(
            lambda conn: image_index.remove_generations(conn, generation_ids, now_ms=now_ms)
        )

    async def claim(self, now_ms: int, limit: int = 100) -> Claim:
        return await self.database.write(lambda conn: image_index.claim_dead(conn, now_ms=now_ms, limit=limit))

    async def forget(self, claim: Claim) -> None:
        await self.database.write(lambda conn: image_index.forget(conn, claim))

    async def dead(self) -> dict[str, int | None]:
        return {row["sha256"]: row["dead_since_ms"] for row in await Books(self.database).rows(tables.blobs)}


@pytest.fixture
def index(database: Database) -> Index:
    return Index(database)


async def test_pictures_are_found_in_the_order_of_their_answer(index: Index):
    images = [stored_image(f"sha-{i}") for i in (3, 1, 2)]
    await index.add("gen_1", *images)
    found = await index.database.read(lambda conn: image_index.of_generation(conn, "gen_1"))
    assert [record.image for record in found] == images
    one = await index.database.read(lambda conn: image_index.find(conn, images[1].id))
    assert one == found[1]
    assert not found[1].removed
    assert await index.database.read(lambda conn: image_index.find(conn, "img_of_nobody")) is None


async def test_shared_bytes_live_until_the_last_picture_of_them_is_removed(index: Index):
    await index.add("gen_1", stored_image("shared"), stored_image("own"))
    await index.add("gen_2", stored_image("shared"), stored_image("shared"))
    await index.remove("gen_1", now_ms=NOW_MS)
    assert await index.dead() == {"shared": None, "own": NOW_MS}
    await index.remove("gen_2", now_ms=NOW_MS + 1)
    assert await index.dead() == {"shared": NOW_MS + 1, "own": NOW_MS}


async def test_a_removal_again_changes_nothing(index: Index):
    await index.add("gen_1", stored_image("a"))
    await index.remove("gen_1", now_ms=NOW_MS)
    await index.remove("gen_1", now_ms=NOW_MS + 99)
    assert await index.dead() == {"a": NOW_MS}
    assert await index.remove() == Removal(0, [])


async def test_dead_bytes_are_deleted_after_an_hour_and_not_before(index: Index):
    await index.add("gen_1", stored_image("a"))
    await index.add("gen_2", stored_image("alive"))
    await index.remove("gen_1")
    assert (await index.claim(NOW_MS + DEAD_FOR_MS)).hashes == []
    claim = await index.claim(LATER_MS)
    assert claim.hashes == ["a"]
    assert await index.dead() == {"a": NOW_MS, "alive": None}
    await index.forget(claim)
    assert await index.dead() == {"alive": None}


async def test_bytes_published_again_are_alive(index: Index):
    await index.add("gen_1", stored_image("a"))
    await index.remove("gen_1")
    await index.add("gen_2", stored_image("a"))
    assert (await index.claim(NOW_MS + 10 * DEAD_FOR_MS)).hashes == []


async def test_bytes_are_claimed_in_batches_and_by_one_at_a_time(index: Index):
    await index.add("gen_1", *(stored_image(f"sha-{i}") for i in range(5)))
    await index.remove("gen_1")
    claims = [await index.claim(LATER_MS, limit=2) for _ in range(4)]
    assert [len(claim.hashes) for claim in claims] == [2, 2, 1, 0]
    assert len({sha256 for claim in claims for sha256 in claim.hashes}) == 5


async def test_bytes_that_are_being_deleted_are_not_revived_until_they_are_forgotten(index: Index):
    """Else a picture would live whose bytes are about to go."""
    await index.add("gen_1", stored_image("a"))
    await index.remove("gen_1")
    claim = await index.claim(LATER_MS)
    with pytest.raises(StorageFailed):
        await index.add("gen_2", stored_image("a"), stored_image("b"), now_ms=LATER_MS + 1)
    assert await index.dead() == {"a": NOW_MS}
    await index.forget(claim)
    await index.add("gen_2", stored_image("a"), stored_image("b"), now_ms=LATER_MS + 1)
    assert await index.dead() == {"a": None, "b": None}


async def test_a_claim_that_came_to_nothing_is_void_after_a_minute(index: Index):
    await index.add("gen_1", stored_image("a"), stored_image("b"))
    await index.remove("gen_1")
    claim = await index.claim(LATER_MS)
    void_ms = LATER_MS + CLAIMED_FOR_MS + 1
    await index.add("gen_2", stored_image("a"), now_ms=void_ms)
    again = await index.claim(void_ms)
    assert again.hashes == ["b"]
    await index.forget(claim)
    assert await index.dead() == {"a": None, "b": NOW_MS}


async def test_of_a_claim_and_a_publication_at_one_moment_only_one_has_the_bytes(index: Index):
    for number in range(20):
        sha = f"sha-{number}"
        await index.add(f"old-{number}", stored_image(sha))
        await index.remove(f"old-{number}")
        claimed, published = await asyncio.gather(
            index.claim(LATER_MS),
            index.add(f"new-{number}", stored_image(sha), now_ms=LATER_MS),
            return_exceptions=True,
        )
        assert isinstance(claimed, Claim)
        assert (claimed.hashes == [sha]) == isinstance(published, StorageFailed)


async def test_old_pictures_are_removed_in_batches_though_no_entry_shows_them(index: Index):
    for number in range(5):
        await index.add(f"gen_{number}", stored_image(f"sha-{number}"), now_ms=number)

    async def remove() -> int:
        gone = await index.database.write(lambda conn: image_index.remove_before(conn, 4, now_ms=NOW_MS, limit=3))
        assert gone.fingerprints == []
        return gone.generations

    assert [await remove() for _ in range(3)] == [3, 1, 0]
    assert [sha for sha, since in (await index.dead()).items() if since is None] == ["sha-4"]


async def test_bytes_published_while_their_last_picture_is_removed_stay_alive(index: Index):
    """PostgreSQL judges an UPDATE it had to wait for by what its statement saw at first: the index must ask anew."""
    for number in range(20):
        sha = f"sha-{number}"
        await index.add(f"old-{number}", stored_image(sha))
        await asyncio.gather(index.add(f"new-{number}", stored_image(sha)), index.remove(f"old-{number}"))
    assert set((await index.dead()).values()) == {None}


async def test_publications_of_the_same_pictures_in_other_orders_do_not_block_each_other(index: Index):
    names = [f"sha-{i}" for i in range(6)]
    orders = [names[i:] + names[:i] for i in range(6)] * 5
    await asyncio.gather(
        *(index.add(f"gen-{n}", *(stored_image(name) for name in order)) for n, order in enumerate(orders))
    )
    count = sa.select(sa.func.count()).select_from(tables.images)
    assert await index.database.read(lambda conn: conn.execute(count).scalar_one()) == 180
