"""Which pictures there are, and which bytes they share. SQL is the truth; the image store holds the bytes.

Bytes without a living picture are marked dead, removed an hour later, and revived by a publication in between. Removing
takes time outside SQL: bytes are claimed for it first and forgotten when they are gone, and what is claimed can't be
revived. A claim that came to nothing is void after a minute, by when whoever made it has given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from msgspec.structs import asdict

from gateway.domain.answer import StoredImage
from gateway.errors import StorageFailed
from gateway.storage.database import insert_for
from gateway.storage.prepared import Prepared
from gateway.storage.tables import blobs, cache_entries, generations, images

DEAD_FOR_MS = 3_600_000
CLAIMED_FOR_MS = 60_000


@dataclass(frozen=True, slots=True)
class ImageRecord:
    image: StoredImage
    removed: bool


def add(conn: sa.Connection, generation_id: str, stored: Iterable[StoredImage], *, now_ms: int) -> None:
    """Record the pictures of a generation and revive their bytes (first, and in one order: it locks them).

    Raises StorageFailed while equal bytes are being deleted.
    """
    pictures = list(stored)
    for sha256, size_bytes in sorted({(image.sha256, image.size_bytes) for image in pictures}):
        row = {"sha256": sha256, "size_bytes": size_bytes, "void_before": now_ms - CLAIMED_FOR_MS}
        if not _REVIVE.run(conn, row):
            raise StorageFailed("Equal bytes are just being deleted.", retry_after_s=30)
    _INSERT.run_each(
        conn,
        [
            asdict(image) | {"generation_id": generation_id, "position": position, "created_ms": now_ms}
            for position, image in enumerate(pictures)
        ],
    )


_INSERT = Prepared(images.insert())


def _revive(dialect: str) -> Any:
    new = insert_for(dialect, blobs).values(sha256=sa.bindparam("sha256"), size_bytes=sa.bindparam("size_bytes"))
    return new.on_conflict_do_update(
        index_elements=[blobs.c.sha256],
        set_={"dead_since_ms": None, "deleting_since_ms": None},
        where=_unclaimed(sa.bindparam("void_before", type_=sa.BigInteger)),
    )


_REVIVE = Prepared(_revive)


def _unclaimed(void_before_ms: Any) -> sa.ColumnElement[bool]:
    return sa.or_(blobs.c.deleting_since_ms.is_(None), blobs.c.deleting_since_ms < void_before_ms)


def find(conn: sa.Connection, image_id: str) -> ImageRecord | None:
    row = conn.execute(sa.select(images).where(images.c.id == image_id)).mappings().one_or_none()
    return None if row is None else record(row)


def of_generation(conn: sa.Connection, generation_id: str) -> list[ImageRecord]:
    """In the order of the answer."""
    found = sa.select(images).where(images.c.generation_id == generation_id).order_by(images.c.position)
    return [record(row) for row in conn.execute(found).mappings()]


def is_removed(conn: sa.Connection, generation_id: str) -> bool:
    """Whether a picture of this generation was removed."""
    removed = sa.select(images.c.id).where(images.c.generation_id == generation_id, images.c.removed_ms.is_not(None))
    return conn.execute(removed.limit(1)).one_or_none() is not None


def record(row: sa.RowMapping) -> ImageRecord:
    """Of a row of `images`."""
    stored = StoredImage(**{name: row[name] for name in StoredImage.__struct_fields__})
    return ImageRecord(stored, row["removed_ms"] is not None)


@dataclass(frozen=True, slots=True)
class Removal:
    """`generations`: how many had their pictures removed. `fingerprints`: of the entries that went with them."""

    generations: int
    fingerprints: list[str]


def remove_before(conn: sa.Connection, before_ms: int, *, now_ms: int, limit: int = 1000) -> Removal:
    """Remove pictures older than that, of up to `limit` generations, their cache entries with them."""
    old = (
        sa.select(images.c.generation_id)
        .where(images.c.created_ms < before_ms, images.c.removed_ms.is_(None))
        .distinct()
        .limit(limit)
    )
    return remove_generations(conn, list(conn.execute(old).scalars()), now_ms=now_ms)


def remove_generations(conn: sa.Connection, generation_ids: Sequence[str], *, now_ms: int) -> Removal:
    """Remove the pictures of these generations and the entries that show them; mark bytes that nobody shows dead."""
    if not generation_ids:
        return Removal(0, [])
    gone = sa.delete(cache_entries).where(cache_entries.c.generation_id.in_(generation_ids))
    fingerprints = list(conn.execute(gone.returning(cache_entries.c.fingerprint)).scalars())
    removed = (
        sa.update(images)
        .where(images.c.generation_id.in_(generation_ids), images.c.removed_ms.is_(None))
        .values(removed_ms=now_ms)
        .returning(images.c.sha256)
    )
    hashes = set(conn.execute(removed).scalars())
    waiting = sa.and_(generations.c.id.in_(generation_ids), generations.c.abandoned_ms.is_not(None))
    conn.execute(sa.update(generations).where(waiting).values(abandoned_ms=None))  # nobody comes back to nothing
    # a publication of equal bytes holds their row: wait for it before asking who lives
    conn.execute(sa.select(blobs.c.sha256).where(blobs.c.sha256.in_(hashes)).order_by(blobs.c.sha256).with_for_update())
    living = sa.select(images.c.sha256).where(images.c.sha256.in_(hashes), images.c.removed_ms.is_(None))
    dead = sa.update(blobs).where(blobs.c.sha256.in_(hashes), blobs.c.sha256.not_in(living))
    conn.execute(dead.values(dead_since_ms=now_ms))
    return Removal(len(generation_ids), fingerprints)


@dataclass(frozen=True, slots=True)
class Claim:
    """Bytes that are being deleted, by whoever claimed them at that moment."""

    hashes: list[str]
    at_ms: int


def claim_dead(conn: sa.Connection, *, now_ms: int, limit: int) -> Claim:
    """Claim bytes that have been dead for an hour. Nobody revives them while the claim holds."""
    old = (blobs.c.dead_since_ms < now_ms - DEAD_FOR_MS, _unclaimed(now_ms - CLAIMED_FOR_MS))
    chosen = sa.select(blobs.c.sha256).where(*old).limit(limit)
    claimed = sa.update(blobs).where(blobs.c.sha256.in_(chosen.scalar_subquery()), *old)
    hashes = conn.execute(claimed.values(deleting_since_ms=now_ms).returning(blobs.c.sha256)).scalars()
    return Claim(list(hashes), now_ms)


def forget(conn: sa.Connection, claim: Claim) -> None:
    """The bytes of the claim are gone. A publication of equal bytes finds them missing from now on, and puts them."""
    conn.execute(sa.delete(blobs).where(blobs.c.sha256.in_(claim.hashes), blobs.c.deleting_since_ms == claim.at_ms))
