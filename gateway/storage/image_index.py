"""Which pictures there are, and which bytes they share. SQL is the truth; the image store holds the bytes.

Bytes without a living picture are marked dead, removed an hour later, and revived by a publication in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from msgspec.structs import asdict

from gateway.domain.answer import StoredImage
from gateway.storage.database import insert_for
from gateway.storage.tables import blobs, cache_entries, generations, images

DEAD_FOR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class ImageRecord:
    image: StoredImage
    removed: bool


def add(conn: sa.Connection, generation_id: str, stored: Iterable[StoredImage], *, now_ms: int) -> None:
    """Record the pictures of a generation and revive their bytes (first, and in one order: it locks them)."""
    pictures = list(stored)
    bytes_of = sorted({(image.sha256, image.size_bytes) for image in pictures})
    conn.execute(
        _revive(conn.dialect.name), [{"sha256": sha256, "size_bytes": size_bytes} for sha256, size_bytes in bytes_of]
    )
    conn.execute(
        _INSERT,
        [
            asdict(image) | {"generation_id": generation_id, "position": position, "created_ms": now_ms}
            for position, image in enumerate(pictures)
        ],
    )


_INSERT = images.insert()


@cache
def _revive(dialect: str) -> Any:
    return insert_for(dialect, blobs).on_conflict_do_update(
        index_elements=[blobs.c.sha256], set_={"dead_since_ms": None}
    )


def find(conn: sa.Connection, image_id: str) -> ImageRecord | None:
    row = conn.execute(sa.select(images).where(images.c.id == image_id)).mappings().one_or_none()
    return None if row is None else ImageRecord(_stored(row), row["removed_ms"] is not None)


def of_generation(conn: sa.Connection, generation_id: str) -> list[ImageRecord]:
    """In the order of the answer."""
    found = sa.select(images).where(images.c.generation_id == generation_id).order_by(images.c.position)
    return [ImageRecord(_stored(row), row["removed_ms"] is not None) for row in conn.execute(found).mappings()]


def _stored(row: sa.RowMapping) -> StoredImage:
    return StoredImage(**{name: row[name] for name in StoredImage.__struct_fields__})


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


def sweep(conn: sa.Connection, delete_bytes: Callable[[str], None], *, now_ms: int, limit: int = 1000) -> int:
    """Forget bytes that have been dead for an hour, and delete them before the transaction ends.

    In this order a publication that revives the same bytes waits for this transaction, then finds them missing
    and puts them again; it never finds a row without bytes.
    """
    long_dead = sa.select(blobs.c.sha256).where(blobs.c.dead_since_ms < now_ms - DEAD_FOR_MS).limit(limit)
    gone = sa.delete(blobs).where(
        blobs.c.sha256.in_(long_dead.scalar_subquery()), blobs.c.dead_since_ms < now_ms - DEAD_FOR_MS
    )
    hashes = list(conn.execute(gone.returning(blobs.c.sha256)).scalars())
    for sha256 in hashes:
        delete_bytes(sha256)
    return len(hashes)
