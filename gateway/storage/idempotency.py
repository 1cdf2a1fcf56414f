"""Idempotency keys: what a caller's key of its own choosing was used for, kept for a day.

A claim is made in the transaction that reserves the purchase, so neither is there without the other, also after a
restart. SQL gone: nothing can be claimed, so nothing is bought.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from gateway.storage.database import insert
from gateway.storage.tables import idempotency_keys

KEPT_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Claim:
    """An Idempotency-Key as its caller used it. `request_hash` covers the canonical request and the answer's form."""

    key_id: str
    idempotency_key: str
    request_hash: str


class AlreadyClaimed(Exception):
    """The key was used meanwhile: look what for."""


def find(conn: sa.Connection, claim: Claim, *, now_ms: int) -> tuple[str, str] | None:
    """The request hash and the generation that the key was used for."""
    c = idempotency_keys.c
    found = sa.select(c.request_hash, c.generation_id).where(
        c.key_id == claim.key_id, c.idempotency_key == claim.idempotency_key, c.expires_ms > now_ms
    )
    row = conn.execute(found).one_or_none()
    return None if row is None else (row.request_hash, row.generation_id)


def make(conn: sa.Connection, claim: Claim, generation_id: str, *, now_ms: int) -> None:
    """Raises AlreadyClaimed."""
    c = idempotency_keys.c
    conn.execute(
        sa.delete(idempotency_keys).where(
            c.key_id == claim.key_id, c.idempotency_key == claim.idempotency_key, c.expires_ms <= now_ms
        )
    )
    row = {
        "key_id": claim.key_id,
        "idempotency_key": claim.idempotency_key,
        "request_hash": claim.request_hash,
        "generation_id": generation_id,
        "expires_ms": now_ms + KEPT_MS,
    }
    if conn.execute(insert(conn, idempotency_keys).values(row).on_conflict_do_nothing()).rowcount != 1:
        raise AlreadyClaimed(claim.idempotency_key)


def free(conn: sa.Connection, generation_id: str) -> None:
    """Nothing was bought: the keys that were used for it may be used again."""
    conn.execute(sa.delete(idempotency_keys).where(idempotency_keys.c.generation_id == generation_id))


def prune(conn: sa.Connection, *, now_ms: int) -> int:
    """Remove what has run out."""
    return conn.execute(sa.delete(idempotency_keys).where(idempotency_keys.c.expires_ms <= now_ms)).rowcount
