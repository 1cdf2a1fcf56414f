"""Bytes of pictures in local files."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from gateway.errors import StorageFailed
from gateway.storage.images import LocalImageStore

DATA = b"picture" * 1000
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> LocalImageStore:
    return LocalImageStore(tmp_path / "images")


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


async def test_what_was_put_is_got_until_it_is_deleted(store: LocalImageStore, tmp_path: Path):
    assert await store.get(SHA) is None
    assert not await store.contains(SHA)
    await store.put(SHA, DATA)
    assert await store.get(SHA) == DATA
    assert await store.contains(SHA)
    path = store.path(SHA)
    assert path is not None
    assert path.read_bytes() == DATA
    store.delete(SHA)
    store.delete(SHA)
    assert await store.get(SHA) is None
    assert files(tmp_path) == []


async def test_the_same_bytes_put_many_times_at_once_are_one_file(store: LocalImageStore, tmp_path: Path):
    await asyncio.gather(*(store.put(SHA, DATA) for _ in range(20)))
    assert files(tmp_path) == [SHA]
    assert await store.get(SHA) == DATA


async def test_nobody_ever_sees_half_a_picture(store: LocalImageStore):
    large = b"x" * 4_000_000
    name = hashlib.sha256(large).hexdigest()
    put = asyncio.create_task(store.put(name, large))
    seen = set()
    while not put.done():
        found = await store.get(name)
        seen.add(None if found is None else len(found))
    await put
    assert seen <= {None, len(large)}


async def test_a_check_leaves_nothing_behind(store: LocalImageStore, tmp_path: Path):
    await store.check()
    assert files(tmp_path) == []


@pytest.mark.parametrize("blocked", ["images", "images/" + SHA[:2]])
async def test_a_store_that_cannot_be_written_says_so(tmp_path: Path, store: LocalImageStore, blocked: str):
    """A file where a folder should be: refused to every user, root too."""
    (tmp_path / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / blocked).write_bytes(b"in the way")
    with pytest.raises(StorageFailed, match="can't write pictures"):
        await store.put(SHA, DATA)
    if blocked == "images":
        with pytest.raises(StorageFailed) as refused:
            await store.check()
        assert (refused.value.charged, refused.value.retry_after_s) == ("no", 30)
    assert files(tmp_path) == [Path(blocked).name]
