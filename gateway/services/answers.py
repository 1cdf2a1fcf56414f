"""Answers that are kept: memory in front, SQL behind, and the addresses of their pictures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence

from gateway.domain.answer import StoredAnswer, StoredImage, render
from gateway.domain.image_request import ResponseFormat
from gateway.errors import ImageRemoved
from gateway.storage import response_cache
from gateway.storage.database import Database
from gateway.storage.images import ImageStore
from gateway.storage.response_cache import Entry, HeldAnswer, MemoryAnswers
from gateway.storage.shared_answers import SharedAnswers
from gateway.threads import to_thread

_SECONDS = re.compile(r"[0-9]{1,15}")


class ImageLinks:
    """Addresses of pictures: permanent and unguessable, or signed and expiring. Never made of a request's Host."""

    def __init__(self, base_url: str, *, secrets: Sequence[bytes], expire_s: int | None) -> None:
        self._base = f"{base_url}/images/"
        self._secrets = secrets
        self._expire_s = expire_s

    @property
    def permanent(self) -> bool:
        return self._expire_s is None

    def address(self, image: StoredImage, *, now_s: int) -> str:
        name = f"{image.id}.{image.extension}"
        if self._expire_s is None:
            return self._base + name
        until = now_s + self._expire_s
        return f"{self._base}{name}?expires={until}&signature={self._sign(image.id, until, self._secrets[0])}"

    def allows(self, image_id: str, *, expires: str | None, signature: str | None, now_s: int) -> bool:
        """Whether an address may be served; a signature under any of the secrets will do."""
        if self.permanent:
            return True
        if not expires or not signature or not _SECONDS.fullmatch(expires) or int(expires) < now_s:
            return False
        signed = (self._sign(image_id, int(expires), secret) for secret in self._secrets)
        return any(hmac.compare_digest(signature.encode(), made.encode()) for made in signed)

    @staticmethod
    def _sign(image_id: str, until: int, secret: bytes) -> str:
        mac = hmac.digest(secret, f"image:{image_id}:{until}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


class AnswerCache:
    """Entries by fingerprint: memory, then what replicas share, then SQL. What the first two hold follows SQL through
    the `changes` table (kind `cache`).
    """

    def __init__(self, database: Database, memory: MemoryAnswers, shared: SharedAnswers) -> None:
        self._database = database
        self._memory = memory
        self._shared = shared
        self.held = memory.get

    def keep(self, entry: Entry) -> HeldAnswer:
        """An entry that is in SQL now."""
        self._shared.keep(entry)
        return self._memory.put(entry)

    async def find(self, fingerprint: str) -> HeldAnswer | None:
        """Raises LedgerUnavailable when SQL has to be asked and is gone."""
        held = self._memory.get(fingerprint)
        if held is not None:
            return held
        entry = await self._shared.find(fingerprint)
        if entry is not None:
            return self._memory.put(entry)
        entry = await self._database.read(lambda conn: response_cache.find(conn, fingerprint))
        return None if entry is None else self.keep(entry)

    def keep_body(self, held: HeldAnswer, body: bytes) -> None:
        self._memory.set_body(held, body)

    def on_change(self, kind: str, object_id: str) -> None:
        """Listener: an entry was purged (`object_id` its fingerprint), here or by another process."""
        if kind == "cache":
            self._memory.drop(object_id)
            self._shared.drop(object_id)

    def clear(self) -> None:
        self._memory.clear()


class AnswerRenderer:
    """Answers as bytes, in either response format, from one stored picture."""

    def __init__(self, links: ImageLinks, images: ImageStore) -> None:
        self._links = links
        self._images = images

    def with_urls(self, answer: StoredAnswer, *, prompt: str, now_s: int) -> bytes:
        addresses = [self._links.address(image, now_s=now_s) for image in answer.images]
        return render(answer, prompt=prompt, addresses=addresses)

    @property
    def reusable(self) -> bool:
        """Whether `with_urls` gives the same bytes at any time."""
        return self._links.permanent

    async def body(self, answer: StoredAnswer, response_format: ResponseFormat, *, prompt: str, now_s: int) -> bytes:
        """Raises ImageRemoved when base64 is asked for and the bytes are gone."""
        if response_format == "url":
            return self.with_urls(answer, prompt=prompt, now_s=now_s)
        pictures = [await self._images.get(image.sha256) for image in answer.images]
        if any(picture is None for picture in pictures):
            raise ImageRemoved("A picture of this answer was removed.", charged="no")
        return await to_thread(_render_b64, answer, prompt, [p for p in pictures if p is not None])


def _render_b64(answer: StoredAnswer, prompt: str, pictures: Sequence[bytes]) -> bytes:
    return render(answer, prompt=prompt, b64=[base64.b64encode(picture).decode() for picture in pictures])
