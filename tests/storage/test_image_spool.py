"""Pictures while the image store is gone: kept, served, and moved once it is back."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from gateway.errors import StorageFailed
from gateway.storage.image_spool import SpooledImageStore
from gateway.storage.images import LocalImageStore
from gateway.storage.images_s3 import S3ImageStore
from gateway.storage.s3_bucket import open_bucket
from tests.support.ports import free_port

DATA = b"a picture"
NAME = hashlib.sha256(DATA).hexdigest()


class World:
    """A store in a folder that can be put out of order, as root too: a file stands in its place."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "images"
        self.spool = root / "spool"
        self.plain = LocalImageStore(self.folder)
        self.store = SpooledImageStore(self.plain, self.spool)

    def break_store(self) -> None:
        self.folder.write_text("not a folder")

    def mend_store(self) -> None:
        self.folder.unlink()

    def break_spool(self) -> None:
        self.spool.write_text("not a folder either")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_while_the_store_works_nothing_is_spooled(world: World):
    await world.store.check()
    await world.store.put(NAME, DATA)
    assert await world.plain.get(NAME) == DATA
    assert not world.spool.exists()
    assert await world.store.unload() == 0


async def test_with_the_store_gone_pictures_are_kept_and_served_and_nothing_new_is_begun(world: World):
    world.break_store()
    with pytest.raises(StorageFailed):
        await world.store.check()
    await world.store.put(NAME, DATA)
    assert await world.store.get(NAME) == DATA
    assert await world.store.contains(NAME)
    pieces = await world.store.open(NAME, 2, 5)
    assert pieces is not None
    assert [piece async for piece in pieces] == [DATA[2:5]]
    with pytest.raises(StorageFailed):
        await world.store.unload()


async def test_the_store_gets_them_when_it_is_back(world: World):
    world.break_store()
    await world.store.put(NAME, DATA)
    world.mend_store()
    assert await world.store.unload() == 1
    assert await world.plain.get(NAME) == DATA
    assert [file for file in world.spool.rglob("*") if file.is_file()] == []


async def test_with_the_spool_gone_too_it_says_so(world: World):
    world.break_store()
    world.break_spool()
    with pytest.raises(StorageFailed):
        await world.store.put(NAME, DATA)


async def test_what_is_deleted_is_gone_from_both(world: World):
    await world.plain.put(NAME, DATA)
    await LocalImageStore(world.spool).put(NAME, DATA)
    await world.store.delete([NAME])
    assert await world.store.get(NAME) is None


async def test_the_first_picture_that_the_store_takes_again_brings_the_others_after_it(tmp_path: Path):
    passed = asyncio.Semaphore(0)

    async def sleep(_seconds: float) -> None:
        passed.release()
        await asyncio.Event().wait()

    world = World(tmp_path)
    store = SpooledImageStore(world.plain, world.spool, sleep=sleep)
    task = asyncio.create_task(store.run())
    await passed.acquire()
    world.break_store()
    await store.put(NAME, DATA)
    world.mend_store()
    await store.put(hashlib.sha256(b"another").hexdigest(), b"another")
    await passed.acquire()
    assert await world.plain.get(NAME) == DATA
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_spooled_is_not_to_be_had_elsewhere(world: World):
    nowhere = f"http://127.0.0.1:{free_port()}"
    gone = open_bucket("b", endpoint_url=nowhere, region="us-east-1", credentials=("key", "secret"))
    store = SpooledImageStore(S3ImageStore(gone, place="nowhere", redirects=True), world.spool)
    assert (await store.address(NAME, "GET") or "").startswith(f"{nowhere}/b/")
    await store.put(NAME, DATA)
    assert await store.address(NAME, "GET") is None


async def test_the_task_goes_on_until_the_store_is_back(tmp_path: Path):
    rounds = asyncio.Semaphore(0)
    passed = asyncio.Semaphore(0)

    async def sleep(_seconds: float) -> None:
        passed.release()
        await rounds.acquire()

    world = World(tmp_path)
    store = SpooledImageStore(world.plain, world.spool, sleep=sleep)
    world.break_store()
    await store.put(NAME, DATA)
    task = asyncio.create_task(store.run())
    await passed.acquire()
    world.mend_store()
    rounds.release()
    await passed.acquire()
    assert await world.plain.get(NAME) == DATA
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
