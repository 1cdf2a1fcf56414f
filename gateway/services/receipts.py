"""Receipts: one purchase as its buyer may see it, and the list of them for administrators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gateway.domain.answer import StoredImage
from gateway.domain.caller import Caller
from gateway.errors import ImageRemoved, NotFound
from gateway.services.answers import ImageLinks
from gateway.storage import image_index, pictures, records, repeats, settlement, usage_queries
from gateway.storage.database import Database
from gateway.storage.images import ADDRESS_LIFE_S, ImageStore, Method
from gateway.storage.paging import Page, is_id
from gateway.storage.tables import UNDER_WAY


@dataclass(frozen=True, slots=True)
class Receipt:
    """A generation's row, its pictures with their present addresses, and how often it was used again.

    `joined`: seen by a user who did not buy it, and is shown its state and pictures alone. `cached`: whether an entry
    of the cache shows its pictures.
    """

    row: dict[str, Any]
    adjustments: Sequence[dict[str, Any]]
    joined: bool
    images: Sequence[tuple[StoredImage, str | None]]
    cached: bool
    reused: int
    saved_micro_usd: int

    @property
    def under_way(self) -> bool:
        return self.row["status"] in UNDER_WAY


class Receipts:
    def __init__(self, database: Database, links: ImageLinks) -> None:
        self._database = database
        self._links = links

    async def require(self, generation_id: str, caller: Caller, *, now_s: int) -> Receipt:
        """A purchase of the caller's user, or one that it was promised the picture of, in the caller's mode.

        Raises NotFound for all others.
        """

        def look(conn: sa.Connection) -> Receipt | None:
            row = records.find_generation(conn, generation_id)
            if row is None or row["mode"] != caller.mode.value:
                return None
            bought = row["user_id"] == caller.user_id
            if not bought and not repeats.is_shared(conn, generation_id, caller.user_id):
                return None
            return self._receipt(conn, row, joined=not bought, now_s=now_s)

        found = await self._database.read(look)
        if found is None:
            raise NotFound(f"There is no generation {generation_id[:64]!r} of yours.")
        return found

    async def require_any(self, generation_id: str, *, now_s: int, team_id: str | None = None) -> Receipt:
        """Any purchase, for administrators; with a team, one that is charged to it. Raises NotFound."""

        def look(conn: sa.Connection) -> Receipt | None:
            row = records.find_generation(conn, generation_id)
            if row is None or team_id not in {None, row["team_id"]}:
                return None
            return self._receipt(conn, row, joined=False, now_s=now_s)

        found = await self._database.read(look)
        if found is None:
            raise NotFound(f"There is no generation {generation_id[:64]!r}.")
        return found

    def _receipt(self, conn: sa.Connection, row: dict[str, Any], *, joined: bool, now_s: int) -> Receipt:
        images = [
            (found.image, None if found.removed else self._links.address(found.image, now_s=now_s))
            for found in image_index.of_generation(conn, row["id"])
        ]
        reused, saved_micro_usd = usage_queries.reuse_of(conn, row["id"])
        return Receipt(
            row,
            settlement.adjustments_of(conn, row["id"]),
            joined,
            images,
            cached=pictures.is_cached(conn, row["id"]),
            reused=reused,
            saved_micro_usd=saved_micro_usd,
        )

    async def get(self, generation_id: str, *, team_id: str | None = None) -> dict[str, Any]:
        """Any purchase, or any of a team's, for administrators. Raises NotFound."""
        row = await self._database.read(lambda conn: records.find_generation(conn, generation_id))
        if row is None or team_id not in {None, row["team_id"]}:
            raise NotFound(f"There is no generation {generation_id[:64]!r}.")
        return row

    async def list(self, **filters: Any) -> Page[dict[str, Any]]:
        return await self._database.read(lambda conn: records.list_generations(conn, **filters))


_REMOVED = "This picture was removed."


class ImageGallery:
    """The bytes behind an image address."""

    address_life_s = ADDRESS_LIFE_S

    def __init__(self, database: Database, images: ImageStore, links: ImageLinks) -> None:
        self._database = database
        self._images = images
        self._links = links

    async def require(
        self, image_id: str, extension: str, *, expires: str | None, signature: str | None, now_s: int
    ) -> StoredImage:
        """The picture. Raises NotFound (also for a bad signature) and ImageRemoved."""
        if not is_id(image_id) or not self._links.allows(image_id, expires=expires, signature=signature, now_s=now_s):
            raise NotFound("There is no such picture, or its address has expired.")
        found = await self._database.read(lambda conn: image_index.find(conn, image_id))
        if found is None or found.image.extension != extension:
            raise NotFound("There is no such picture, or its address has expired.")
        if found.removed:
            raise ImageRemoved(_REMOVED)
        return found.image

    async def address(self, image: StoredImage, method: Method) -> str | None:
        """Where the store itself serves it, for `address_life_s`; None: it does not. Raises StorageFailed."""
        return await self._images.address(image.sha256, method)

    async def open(self, image: StoredImage, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `stop`, in pieces. Raises ImageRemoved and StorageFailed."""
        pieces = await self._images.open(image.sha256, start, stop)
        if pieces is None:
            raise ImageRemoved(_REMOVED)
        return pieces

    async def require_bytes(self, image: StoredImage) -> None:
        """Raises ImageRemoved unless they are there, and StorageFailed."""
        if not await self._images.contains(image.sha256):
            raise ImageRemoved(_REMOVED)
