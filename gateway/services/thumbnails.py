"""Thumbnails: made once of a picture that is there, kept as files, never shown of one that was removed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import sqlalchemy as sa
import structlog

from gateway.domain import picture
from gateway.domain.answer import StoredImage
from gateway.domain.picture import ImageUnusable
from gateway.errors import ImageRemoved, NotFound
from gateway.storage import pictures, thumbnail_files
from gateway.storage.database import Database
from gateway.storage.image_index import ImageRecord
from gateway.storage.images import ImageStore
from gateway.storage.thumbnail_files import ThumbnailFiles
from gateway.threads import to_thread

_AT_ONCE = 2
"""As many are made at a time: the processors are there for calls first."""
_log = structlog.get_logger(__name__)
_Kind = tuple[str, int]


class Thumbnails:
    def __init__(self, database: Database, images: ImageStore, folder: Path, *, max_bytes: int) -> None:
        self._database = database
        self._images = images
        self._files = ThumbnailFiles(folder)
        self._max_bytes = max_bytes
        self._making: dict[_Kind, asyncio.Task[bytes]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def require(
        self, image_id: str, *, mode: str | None = None, user_id: str | None = None, team_id: str | None = None
    ) -> StoredImage:
        """A picture that is there, and whose purchase is of that mode, user and team.

        Raises NotFound and ImageRemoved.
        """

        def look(conn: sa.Connection) -> ImageRecord | None:
            return pictures.find(conn, image_id, mode=mode, user_id=user_id, team_id=team_id)

        found = await self._database.read(look)
        if found is None:
            raise NotFound(f"There is no picture {image_id[:64]!r}.")
        if found.removed:
            raise ImageRemoved("This picture was removed.")
        return found.image

    async def of(self, image: StoredImage, size: int) -> bytes:
        """The picture as a WebP, its longest side `size` pixels at most. Equal askings at one time share the work.

        Raises ImageRemoved and StorageFailed.
        """
        kind = (image.sha256, size)
        kept = await to_thread(self._files.read, *kind)
        if kept is not None:
            return kept
        making = self._making.get(kind)
        if making is None:
            making = self._making[kind] = asyncio.create_task(self._make(kind))
            making.add_done_callback(lambda done: self._made(kind, done))
        return await asyncio.shield(making)  # whoever leaves leaves the others their picture

    def _made(self, kind: _Kind, done: asyncio.Task[bytes]) -> None:
        del self._making[kind]
        if not done.cancelled():
            done.exception()  # heard of, though all who asked may have left

    async def _make(self, kind: _Kind) -> bytes:
        sha256, size = kind
        async with self._turns:
            data = await self._images.get(sha256)
            if data is None:
                raise ImageRemoved("This picture was removed.")
            return await to_thread(self._draw, data, sha256, size)

    def _draw(self, data: bytes, sha256: str, size: int) -> bytes:
        try:
            made = picture.thumbnail(data, size)
        except ImageUnusable as exc:  # it was decoded when it came: the bytes have changed since
            _log.error("picture_unreadable", sha256=sha256, reason=exc.reason)
            raise NotFound("This picture can't be read any more.") from exc
        self._files.write(sha256, size, made)
        return made

    async def sweep(self) -> int:
        """Delete those whose picture is gone, and the least recently used that are too many. Returns how many."""
        files = await to_thread(self._files.all)
        hashes = {file.sha256 for file in files}
        living = await self._database.read(lambda conn: thumbnail_files.living(conn, hashes))
        gone = thumbnail_files.superfluous(files, living, max_bytes=self._max_bytes)
        await to_thread(self._files.delete, gone)
        return len(gone)
