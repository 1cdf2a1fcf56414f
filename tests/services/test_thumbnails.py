"""Thumbnails: made once, shared while they are made, and gone with their picture."""

from __future__ import annotations

import asyncio
import hashlib
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from gateway.demo.pictures import File, bytes_of
from gateway.domain.answer import StoredImage
from gateway.errors import ImageRemoved, NotFound
from gateway.services.thumbnails import Thumbnails
from gateway.storage import image_index
from gateway.storage.database import Database
from gateway.storage.images import LocalImageStore
from tests.support.ledger import Books, intent, stored_image


class CountingStore(LocalImageStore):
    """Counts what is read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads = 0
        self.was_read = asyncio.Event()

    async def get(self, sha256: str) -> bytes | None:
        self.reads += 1
        self.was_read.set()
        return await super().get(sha256)


class World:
    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.books = Books(database)
        self.store = CountingStore(folder / "images")
        self.folder = folder / "thumbnails"
        self.thumbnails = Thumbnails(database, self.store, self.folder, max_bytes=2**20)

    async def picture(self, data: bytes) -> StoredImage:
        made = intent()
        await self.books.reserve_answered(made)
        image = stored_image(hashlib.sha256(data).hexdigest())
        await self.store.put(image.sha256, data)
        await self.books.publish(made, image)
        self.generation_id = made.id
        return image

    def kept(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("??/*"))


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return World(database, tmp_path)


DATA = bytes_of(File("a", 800, 400))


async def test_it_is_made_once_and_kept_under_the_name_of_the_bytes(world: World):
    image = await world.picture(DATA)
    first = await world.thumbnails.of(image, 320)
    assert Image.open(BytesIO(first)).size == (320, 160)
    assert world.kept() == [f"{image.sha256}-320.webp"]
    assert await world.thumbnails.of(image, 320) == first
    assert world.store.reads == 1


async def test_equal_askings_share_the_work_and_one_that_leaves_takes_nothing_from_the_others(world: World):
    image = await world.picture(DATA)
    asking = [asyncio.create_task(world.thumbnails.of(image, 320)) for _ in range(5)]
    await world.store.was_read.wait()
    asking[0].cancel()
    made = await asyncio.gather(*asking[1:])
    assert len(set(made)) == 1
    assert world.store.reads == 1


async def test_a_picture_whose_bytes_are_gone_is_removed_and_may_come_back(world: World):
    image = await world.picture(DATA)
    await world.store.delete([image.sha256])
    with pytest.raises(ImageRemoved):
        await world.thumbnails.of(image, 320)
    await world.store.put(image.sha256, DATA)
    assert await world.thumbnails.of(image, 320)


async def test_bytes_that_are_no_picture_any_more_are_not_found(world: World):
    image = await world.picture(b"no picture at all")
    with pytest.raises(NotFound, match="can't be read"):
        await world.thumbnails.of(image, 320)
    assert world.kept() == []


async def test_a_removed_picture_shows_no_thumbnail_though_its_file_is_there(world: World):
    image = await world.picture(DATA)
    await world.thumbnails.of(await world.thumbnails.require(image.id), 320)
    await world.database.write(lambda conn: image_index.remove_generations(conn, [world.generation_id], now_ms=5))
    assert world.kept()
    with pytest.raises(ImageRemoved):
        await world.thumbnails.require(image.id)
    assert await world.thumbnails.sweep() == 1
    assert world.kept() == []


async def test_a_sweep_leaves_what_is_there_and_keeps_to_its_room(world: World):
    image = await world.picture(DATA)
    await world.thumbnails.of(image, 320)
    assert await world.thumbnails.sweep() == 0
    full = Thumbnails(world.database, world.store, world.folder, max_bytes=1)
    assert await full.sweep() == 1
