"""The bytes of pictures in a bucket of S3, or of a store that speaks like it, under PREFIX/aa/bb/SHA-256.

Server gone: every call raises StorageFailed, within 20 s. `check` trusts for 5 s what went well, or until a write
fails; what is bought in between waits in the spool. Imported when it is used: it brings obstore.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import obstore
from obstore.exceptions import AlreadyExistsError, GenericError
from obstore.store import S3Store

from gateway.domain.picture import content_type_of
from gateway.errors import StorageFailed
from gateway.storage.images import (
    ADDRESS_LIFE_S,
    PIECE_BYTES,
    Method,
    cannot_buy,
    cannot_delete,
    cannot_read,
    cannot_write,
    key_of,
)
from gateway.storage.s3_bucket import asking, is_missing, lacks_conditions

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

_TRUST_S = 5.0
_PROBE = ".darkroom"
_DELETIONS_AT_ONCE = 10


class S3ImageStore:
    """`redirects`: pictures are fetched from the bucket itself, by addresses that are signed and soon expire."""

    def __init__(
        self, bucket: S3Store, *, place: str, redirects: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.place = place
        self._bucket = bucket
        self._redirects = redirects
        self._clock = clock
        self._trusted_until = float("-inf")
        self._probing: asyncio.Task[None] | None = None
        self._has_conditions = True

    async def check(self) -> None:
        if self._clock() < self._trusted_until:
            return
        if self._probing is None:  # those who come meanwhile wait for the same one
            self._probing = asyncio.create_task(self._probe(), name="probe of the bucket")
            self._probing.add_done_callback(self._probed)
        await asyncio.shield(self._probing)

    async def _probe(self) -> None:
        """What is there already is not written again: that it is there, a server tells only those who may write it."""
        async with self._writing(cannot_buy):
            if not await self._created(_PROBE, b"darkroom") and not self._has_conditions:
                await self._send(_PROBE, b"darkroom", "overwrite")

    def _probed(self, task: asyncio.Task[None]) -> None:
        self._probing = None
        if not task.cancelled():
            task.exception()  # whoever asked may have left, and then nobody reads it

    async def put(self, sha256: str, data: bytes) -> bool:
        key = key_of(sha256)
        async with self._writing(cannot_write):
            if await self._created(key, data):
                return True
            if await self._size(key) == len(data):
                return False
            await self._send(key, data, "overwrite")
            return True

    async def _created(self, key: str, data: bytes) -> bool:
        """False: an object of this name is there or just being written, or the server can't put on that condition."""
        if not self._has_conditions:
            return False
        try:
            await self._send(key, data, "create")
        except AlreadyExistsError:
            return False
        except GenericError as exc:
            if not lacks_conditions(exc):
                raise
            self._has_conditions = False
            return False
        return True

    async def _send(self, key: str, data: bytes, mode: Literal["create", "overwrite"]) -> None:
        """With its SHA-256, by which the server checks it, and its type, for those who fetch it there."""
        kind = content_type_of(data) or "application/octet-stream"
        await obstore.put_async(
            self._bucket, key, data, mode=mode, attributes={"Content-Type": kind}, use_multipart=False
        )

    @asynccontextmanager
    async def _writing(self, refusal: Callable[[str], StorageFailed]) -> AsyncIterator[None]:
        """What a write comes to is what `check` knows from then on."""
        try:
            async with asking(refusal):
                yield
        except StorageFailed:
            self._trusted_until = float("-inf")
            raise
        self._trusted_until = self._clock() + _TRUST_S

    async def get(self, sha256: str) -> bytes | None:
        async with asking(cannot_read):
            found = await self._found(key_of(sha256), {})
            return None if found is None else bytes(await found.bytes_async())

    async def contains(self, sha256: str) -> bool:
        async with asking(cannot_read):
            return await self._size(key_of(sha256)) is not None

    async def _size(self, key: str) -> int | None:
        """By its first byte: the answer to a HEAD has no body to tell a missing object from a missing bucket."""
        found = await self._found(key, {"range": (0, 1)})
        if found is None:
            return None
        await found.bytes_async()
        return found.meta["size"]

    async def open(self, sha256: str, start: int, stop: int) -> AsyncIterator[bytes] | None:
        async with asking(cannot_read):
            found = await self._found(key_of(sha256), {"range": (start, stop)})
        return None if found is None else _pieces(found)

    async def _found(self, key: str, options: GetOptions) -> GetResult | None:
        try:
            return await obstore.get_async(self._bucket, key, options=options)
        except FileNotFoundError as exc:
            if is_missing(exc):
                return None
            raise

    async def address(self, sha256: str, method: Method) -> str | None:
        if not self._redirects:
            return None
        async with asking(cannot_read):
            return await obstore.sign_async(self._bucket, method, key_of(sha256), timedelta(seconds=ADDRESS_LIFE_S))

    async def delete(self, hashes: Sequence[str]) -> None:
        turns = asyncio.Semaphore(_DELETIONS_AT_ONCE)

        async def in_turn(sha256: str) -> None:
            async with turns:
                await self._delete(key_of(sha256))

        async with asking(cannot_delete):
            await asyncio.gather(*map(in_turn, hashes))

    async def tidy(self) -> None:
        """A put that was cut off leaves nothing: an object is there whole, or not at all."""

    async def _delete(self, key: str) -> None:
        try:
            await obstore.delete_async(self._bucket, key)
        except FileNotFoundError as exc:  # S3 itself does not mind; others do
            if not is_missing(exc):
                raise


async def _pieces(found: GetResult) -> AsyncIterator[bytes]:
    stream = found.stream(min_chunk_size=PIECE_BYTES)
    while True:
        async with asking(cannot_read):
            piece = await anext(stream, None)
        if piece is None:
            return
        yield piece
