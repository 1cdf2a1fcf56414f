"""From a settled answer to a picture that callers can see: fetch, check, store the bytes, publish.

The money is settled before any of this. What fails for now is tried again, here and after a restart; what can
never succeed ends the generation as `failed`, with its cost.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec
import structlog
from msgspec.structs import replace

from gateway.domain.answer import AnsweredImage, ProviderAnswer, StoredAnswer, StoredImage
from gateway.domain.ids import new_id
from gateway.domain.picture import ImageUnusable, PictureFacts, inspect_picture
from gateway.domain.usage_row import UsageRow, failed_row
from gateway.errors import ProviderError
from gateway.storage import generations
from gateway.storage.database import Database
from gateway.storage.images import ImageStore
from gateway.storage.response_cache import Entry
from gateway.telemetry.tracing import FETCH, NO_TRACING, PUBLICATION, Tracing
from gateway.threads import to_thread

_FETCH_PAUSES_S = (0.25, 1.0)

Sleep = Callable[[float], Awaitable[None]]
_log = structlog.get_logger(__name__)


class Expected(msgspec.Struct, frozen=True):
    """What the pictures of a generation must be. A size of (0, 0) is any size."""

    images: int
    extension: str
    size: tuple[int, int]


class PictureSource(Protocol):
    """Where the pictures of an answer are: its provider."""

    @property
    def name(self) -> str: ...

    async def fetch(self, address: str) -> bytes:
        """Raises ImageUnusable."""


@dataclass(frozen=True, slots=True)
class Paid:
    """A generation that is settled and waits for its pictures. `usage` is the buyer's row, ready but for the outcome.

    `storable`: the cache may keep the answer, if it is whole. `latency_us` tells how long the buyer has waited.
    """

    generation_id: str
    provider: PictureSource
    answer: ProviderAnswer
    cost_micro_usd: int
    expected: Expected
    storable: bool
    usage: UsageRow
    latency_us: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Published:
    """`entry`: what the cache keeps of it, if it does. `row`: the buyer's usage row as written."""

    answer: StoredAnswer
    entry: Entry | None
    row: UsageRow


@dataclass(frozen=True, slots=True)
class _Kept:
    """A picture whose bytes are in the store; `is_new`: they were not before."""

    image: StoredImage
    data: bytes
    is_new: bool


class Publisher:
    def __init__(
        self,
        database: Database,
        images: ImageStore,
        *,
        ttl_ms: int | None,
        tracing: Tracing = NO_TRACING,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._database = database
        self._images = images
        self._ttl_ms = ttl_ms
        self._tracing = tracing
        self._sleep = sleep

    async def publish(self, paid: Paid) -> Published:
        """Raises ProviderError (charged: yes) when no picture can be had; the generation is then `failed`, or still
        `answered` if trying again may help. Raises LedgerUnavailable and StorageFailed as they come, likewise to be
        tried again.
        """
        with self._tracing.span(PUBLICATION, generation_id=paid.generation_id):
            return await self._publish(paid)

    async def _publish(self, paid: Paid) -> Published:
        pictures = await self._pictures(paid)
        stored = tuple(picture.image for picture in pictures.values())
        answer = _stored_answer(paid, list(pictures), stored)
        keep = paid.storable and len(stored) == paid.expected.images
        row = replace(
            paid.usage,
            outcome="bought",
            status=200,
            images=len(stored),
            cost_micro_usd=paid.cost_micro_usd,
            latency_us=paid.latency_us(),
        )
        try:
            entry = await self._database.write(
                lambda conn: generations.publish(
                    conn, paid.generation_id, answer, storable=keep, ttl_ms=self._ttl_ms, usage=row
                )
            )
        except generations.AlreadyOver:
            raise _no_picture("another process finished it", "Ask again: it is stored") from None
        for picture in pictures.values():
            await self._put_again(picture)
        return Published(answer, entry, row)

    async def _put_again(self, picture: _Kept) -> None:
        """Bytes that were there before, the sweep may have taken just before they were revived."""
        sha256 = picture.image.sha256
        if not (picture.is_new or await self._images.contains(sha256)):
            await self._images.put(sha256, picture.data)

    async def _pictures(self, paid: Paid) -> dict[int, _Kept]:
        """The usable pictures by their place in the answer."""
        found = await asyncio.gather(
            *(self._picture(paid, image) for image in paid.answer.images), return_exceptions=True
        )
        usable: dict[int, _Kept] = {}
        bad: list[ImageUnusable] = []
        for position, result in enumerate(found):
            if isinstance(result, ImageUnusable):
                bad.append(result)
            elif isinstance(result, BaseException):
                raise result
            else:
                usable[position] = result
        if any(not finding.permanent for finding in bad):
            raise _no_picture(bad[0].reason, "It is paid for and will be fetched; ask again in a while")
        if not usable:
            await self._give_up(paid, bad[0].reason)
        if bad:
            _log.warning("pictures_dropped", generation_id=paid.generation_id, reasons=[b.reason for b in bad])
        return usable

    async def _give_up(self, paid: Paid, reason: str) -> None:
        await self.abandon(paid, reason)
        raise _no_picture(reason, "The provider charged for it all the same")

    async def abandon(self, paid: Paid, reason: str) -> None:
        """End the generation as `failed`, with its cost."""
        usage = replace(paid.usage, latency_us=paid.latency_us())
        row = failed_row(usage, ProviderError(reason), cost_micro_usd=paid.cost_micro_usd)
        error = {"code": ProviderError.code, "message": reason}
        await self._database.write(lambda conn: generations.fail(conn, paid.generation_id, error=error, usage=row))

    async def _picture(self, paid: Paid, image: AnsweredImage) -> _Kept:
        """The picture, its bytes kept. Raises ImageUnusable, and StorageFailed."""
        with self._tracing.span(FETCH, generation_id=paid.generation_id):
            data = await self._bytes(paid.provider, image)
        facts, sha256 = await to_thread(_examine, data, paid.expected)
        is_new = await self._images.put(sha256, data)
        extension, kind = facts.extension, facts.content_type
        stored = StoredImage(new_id("img"), sha256, extension, kind, facts.width, facts.height, len(data))
        return _Kept(stored, data, is_new)

    async def _bytes(self, provider: PictureSource, image: AnsweredImage) -> bytes:
        if image.b64 is not None:
            try:
                return base64.b64decode(image.b64, validate=True)
            except binascii.Error as exc:
                raise ImageUnusable(f"not base64: {exc}", permanent=True) from exc
        for pause_s in (*_FETCH_PAUSES_S, None):
            try:
                return await provider.fetch(image.url or "")
            except ImageUnusable as exc:
                if exc.permanent or pause_s is None:
                    raise
                await self._sleep(pause_s)
        raise AssertionError("unreachable")


def _examine(data: bytes, expected: Expected) -> tuple[PictureFacts, str]:
    """What the picture is, and its SHA-256. Raises ImageUnusable."""
    facts = inspect_picture(data)
    if facts.extension != expected.extension:
        raise ImageUnusable(f"asked for {expected.extension}, got {facts.extension}", permanent=True)
    if expected.size not in {(0, 0), (facts.width, facts.height)}:
        asked = "x".join(map(str, expected.size))
        raise ImageUnusable(f"asked for {asked}, got {facts.width}x{facts.height}", permanent=True)
    return facts, hashlib.sha256(data).hexdigest()


def _no_picture(reason: str, advice: str) -> ProviderError:
    return ProviderError(
        f"The provider answered, but its picture can't be used: {reason}. {advice}.",
        charged="yes",
        should_retry=False,
    )


def _stored_answer(paid: Paid, places: list[int], stored: tuple[StoredImage, ...]) -> StoredAnswer:
    answer = paid.answer
    flags = answer.nsfw if answer.nsfw is not None and len(answer.nsfw) == len(answer.images) else None
    return StoredAnswer(
        generation_id=paid.generation_id,
        created=answer.created or int(time.time()),
        images=stored,
        cost_micro_usd=paid.cost_micro_usd,
        provider=paid.provider.name,
        inference_id=answer.inference_id,
        seed=answer.seed,
        timings=answer.timings,
        nsfw=tuple(flags[place] for place in places) if flags is not None else None,
    )
