"""Bytes of pictures in local files and in a bucket: one contract for both."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import obstore
import pytest
from obstore.store import S3Store

from gateway.errors import StorageFailed
from gateway.storage.images import PIECE_BYTES, ImageStore, LocalImageStore
from gateway.storage.images_s3 import S3ImageStore
from gateway.storage.s3_bucket import open_bucket
from tests.support.ports import free_port
from tests.support.s3 import BUCKET, S3Server

DATA = b"picture" * 1000
SHA = hashlib.sha256(DATA).hexdigest()
LARGE = bytes(range(256)) * 10_000
LARGE_SHA = hashlib.sha256(LARGE).hexdigest()


class Local:
    """A folder; `broken` is a store whose folder is a file: out of order for every user, root too."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.store: ImageStore = LocalImageStore(root / "images")
        (root / "in-the-way").write_bytes(b"no folder")
        self.broken: ImageStore = LocalImageStore(root / "in-the-way")

    async def names(self) -> list[str]:
        return sorted(path.name for path in (self._root / "images").rglob("*") if path.is_file())


class Bucket:
    """A prefix of a bucket; `broken` is a store whose server does not listen."""

    def __init__(self, server: S3Server) -> None:
        self._bucket = bucket(server.url, prefix=f"/a test/{uuid4().hex}/")
        self.store: ImageStore = S3ImageStore(self._bucket, place="the bucket")
        self.broken: ImageStore = S3ImageStore(bucket(f"http://127.0.0.1:{free_port()}"), place="nowhere")

    async def names(self) -> list[str]:
        """But for what `check` leaves behind: one object, for good."""
        found = [object_["path"] async for page in obstore.list(self._bucket) for object_ in page]
        return sorted(path.rpartition("/")[2] for path in found if path != ".darkroom")


def bucket(url: str, prefix: str = "") -> S3Store:
    credentials = ("key", "secret")
    return open_bucket(BUCKET, prefix=prefix, endpoint_url=url, region="us-east-1", credentials=credentials)


@pytest.fixture(params=["local", "s3"])
def twin(request: pytest.FixtureRequest, tmp_path: Path) -> Local | Bucket:
    return Local(tmp_path) if request.param == "local" else Bucket(request.getfixturevalue("s3"))


async def read(store: ImageStore, sha256: str, start: int, stop: int) -> list[bytes] | None:
    pieces = await store.open(sha256, start, stop)
    return None if pieces is None else [piece async for piece in pieces]


async def test_what_was_put_is_got_until_it_is_deleted(twin: Local | Bucket):
    store = twin.store
    assert await store.get(SHA) is None
    assert not await store.contains(SHA)
    assert await store.put(SHA, DATA)
    assert not await store.put(SHA, DATA)
    assert await store.put(LARGE_SHA, LARGE)
    assert await store.get(SHA) == DATA
    assert await store.contains(SHA)
    for _ in range(2):
        await store.delete([SHA, LARGE_SHA])
    assert await store.get(SHA) is None
    assert await twin.names() == []


async def test_a_part_is_read_in_pieces(twin: Local | Bucket):
    await twin.store.put(LARGE_SHA, LARGE)
    pieces = await read(twin.store, LARGE_SHA, 0, len(LARGE))
    assert pieces is not None
    assert b"".join(pieces) == LARGE
    assert 2 < len(pieces) <= 1 + len(LARGE) // (PIECE_BYTES // 2)
    assert await read(twin.store, LARGE_SHA, 256, 260) == [b"\x00\x01\x02\x03"]
    assert await read(twin.store, LARGE_SHA, len(LARGE) - 1, len(LARGE)) == [b"\xff"]
    assert await read(twin.store, SHA, 0, 1) is None


async def test_the_same_bytes_put_many_times_at_once_are_there_once(twin: Local | Bucket):
    await asyncio.gather(*(twin.store.put(SHA, DATA) for _ in range(20)))
    assert await twin.names() == [SHA]
    assert await twin.store.get(SHA) == DATA


async def test_nobody_ever_sees_half_a_picture(twin: Local | Bucket):
    put = asyncio.create_task(twin.store.put(LARGE_SHA, LARGE))
    seen = set()
    while not put.done():
        found = await twin.store.get(LARGE_SHA)
        seen.add(None if found is None else len(found))
    await put
    assert seen <= {None, len(LARGE)}


async def test_a_check_leaves_no_picture_behind(twin: Local | Bucket):
    await twin.store.check()
    await twin.store.check()
    assert await twin.names() == []


async def test_pictures_are_fetched_from_the_gateway_unless_it_is_said_otherwise(twin: Local | Bucket):
    await twin.store.put(SHA, DATA)
    assert await twin.store.address(SHA, "GET") is None


CALLS: dict[str, Callable[[ImageStore], Awaitable[object]]] = {
    "check": lambda store: store.check(),
    "put": lambda store: store.put(SHA, DATA),
    "get": lambda store: store.get(SHA),
    "contains": lambda store: store.contains(SHA),
    "open": lambda store: store.open(SHA, 0, 1),
    "delete": lambda store: store.delete([SHA]),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_store_that_is_gone_says_so(twin: Local | Bucket, call: str):
    with pytest.raises(StorageFailed) as refused:
        await CALLS[call](twin.broken)
    verb = {"check": "write", "put": "write", "delete": "delete"}.get(call, "read")
    assert refused.value.message.startswith(f"The gateway can't {verb} pictures right now (")
    assert refused.value.message.endswith(", so nothing was bought." if call == "check" else ").")
    assert (refused.value.charged, refused.value.retry_after_s) == ("no" if call == "check" else None, 30)


async def test_a_local_folder_that_took_bytes_just_now_is_believed_to_be_in_order(tmp_path: Path):
    """By its file system's word; after a failure, bytes decide again."""
    store = LocalImageStore(tmp_path / "images")
    await store.put(SHA, DATA)
    aside = tmp_path / "images" / ".aside"
    before_ns = aside.stat().st_mtime_ns
    await store.check()
    assert aside.stat().st_mtime_ns == before_ns  # nothing was written into it
    (tmp_path / "images" / LARGE_SHA[:2]).write_bytes(b"in the way")
    with pytest.raises(StorageFailed):
        await store.put(LARGE_SHA, LARGE)
    (tmp_path / "images" / LARGE_SHA[:2]).unlink()
    os.utime(aside, ns=(0, 0))
    await store.check()
    assert aside.stat().st_mtime_ns > 0


async def test_bytes_and_every_name_on_the_way_to_them_are_synced_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Else a loss of power may take a picture that is paid for and published."""
    synced = []

    def sync(descriptor: int, fsync: Callable[[int], None] = os.fsync) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    store = LocalImageStore(tmp_path / "data" / "images")
    await store.put(SHA, DATA)
    assert re.sub(r"-\w+", "-random", " ".join(map(str, synced))) == (
        f". data data/images data/images/.aside/{SHA}-random data/images data/images/{SHA[:2]}"
    )
    synced.clear()
    await store.delete([SHA])
    await store.put(SHA, DATA)
    assert [path.name for path in synced[1:]] == [SHA[:2]]


async def test_a_local_folder_that_breaks_right_after_a_write_says_so(tmp_path: Path):
    store = LocalImageStore(tmp_path / "images")
    await store.put(SHA, DATA)
    (tmp_path / "images").rename(tmp_path / "aside")
    (tmp_path / "images").write_bytes(b"no folder")
    with pytest.raises(StorageFailed, match="can't write pictures"):
        await store.check()


async def test_a_local_folder_that_is_in_order_except_for_one_place_says_so_once_it_is_known(tmp_path: Path):
    """Each purchase of a picture that can't be kept is paid for all the same."""
    (tmp_path / SHA[:2]).write_bytes(b"in the way")
    store = LocalImageStore(tmp_path)
    await store.check()
    with pytest.raises(StorageFailed, match="can't write pictures"):
        await store.put(SHA, DATA)
    for _ in range(2):
        with pytest.raises(StorageFailed, match="so nothing was bought"):
            await store.check()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / SHA[:2]]
    (tmp_path / SHA[:2]).unlink()
    await store.check()
    assert (store.names(), await store.put(SHA, DATA), store.names()) == ([], True, [SHA])


async def test_a_local_folder_that_takes_less_than_a_picture_says_so_once_it_is_known(tmp_path: Path):
    store = LocalImageStore(tmp_path)
    with most_bytes_of_a_file(10_000):
        await store.check()
        with pytest.raises(StorageFailed, match=r"\(File too large\)"):
            await store.put(LARGE_SHA, LARGE)
        for _ in range(2):
            with pytest.raises(StorageFailed, match=r"\(File too large\), so nothing was bought"):
                await store.check()
    await store.check()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_a_local_folder_with_hardly_any_room_takes_no_purchase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = LocalImageStore(tmp_path)
    whole = os.statvfs(tmp_path)
    left = os.statvfs_result((*whole[:4], 2**26 // whole.f_frsize, *whole[5:]))
    await store.put(SHA, DATA)
    monkeypatch.setattr(os, "statvfs", lambda _path: left)
    with pytest.raises(StorageFailed, match=r"\(less than 64 MiB are free\), so nothing was bought"):
        await store.check()
    await store.put(LARGE_SHA, LARGE)  # what is paid for is kept as long as it can be
    with pytest.raises(StorageFailed, match="64 MiB"):
        await store.check()
    monkeypatch.undo()
    await store.check()


@contextmanager
def most_bytes_of_a_file(size: int) -> Iterator[None]:
    """Of any that this process writes: what a disk does that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_nothing_of_a_failed_put_stays(tmp_path: Path):
    (tmp_path / SHA[:2]).write_bytes(b"in the way")
    with pytest.raises(StorageFailed):
        await LocalImageStore(tmp_path).put(SHA, DATA)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / SHA[:2]]


async def test_what_was_cut_off_in_the_middle_of_a_write_goes_after_an_hour(tmp_path: Path):
    store = LocalImageStore(tmp_path)
    await store.tidy()  # before there is anything
    await store.put(SHA, DATA)
    old, new = (tmp_path / ".aside" / f"{SHA}-{name}" for name in ("old", "new"))
    for file in (old, new, tmp_path / SHA[:2] / SHA):
        file.write_bytes(DATA)
    for file in (old, tmp_path / SHA[:2] / SHA):
        os.utime(file, (time.time() - 3601, time.time() - 3601))
    await store.tidy()
    assert (old.exists(), new.exists(), await store.get(SHA)) == (False, True, DATA)
