"""A caller's key: `dk_live_` or `dk_test_`, a public part, a secret and a checksum.

    dk_live_ 9xK2mPq4Zt7B  <32 characters of secret>  <6 characters of CRC-32>

The checksum lets a secret scanner (and this gateway, without a look-up) know a real key from a made-up one.
Only an HMAC-SHA256 with a pepper is stored: the secret has 190 bits, so a slow hash would buy nothing (and would
cost a quarter of a second a call).
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.ids import BASE62, random_base62, to_base62


class Mode(StrEnum):
    """Live or test: two worlds with their own cache, counters and reports."""

    LIVE = "live"
    TEST = "test"


KEY_STARTS = tuple(f"dk_{mode}_" for mode in Mode)
PUBLIC_LENGTH = 12
SECRET_LENGTH = 32
CHECKSUM_LENGTH = 6
PREFIX_LENGTH = len("dk_live_") + PUBLIC_LENGTH
_AFTER_START = PUBLIC_LENGTH + SECRET_LENGTH + CHECKSUM_LENGTH
_ALPHABET = frozenset(BASE62)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A well-formed key. `prefix` (mode and public part) names it in lists; `text` is the secret whole."""

    text: str
    prefix: str
    mode: Mode

    def __repr__(self) -> str:
        return f"ApiKey({self.prefix}...)"


def new_api_key(mode: Mode) -> ApiKey:
    text = new_text(f"dk_{mode}_")
    return ApiKey(text, text[:PREFIX_LENGTH], mode)


def parse_api_key(text: str) -> ApiKey | None:
    """The key, or None when the form or the checksum is wrong."""
    if not any(is_whole(text, start) for start in KEY_STARTS):
        return None
    return ApiKey(text, text[:PREFIX_LENGTH], Mode(text[3:7]))


def new_text(start: str) -> str:
    """A new secret of this form, whatever it is for: `start` says that."""
    stem = start + random_base62(PUBLIC_LENGTH + SECRET_LENGTH)
    return stem + _checksum(stem)


def is_whole(text: str, start: str) -> bool:
    """Whether a text begins like this and has the length, the alphabet and the checksum of one that was given out."""
    if len(text) != len(start) + _AFTER_START or not text.startswith(start):
        return False
    return _ALPHABET.issuperset(text[len(start) :]) and _checksum(text[:-CHECKSUM_LENGTH]) == text[-CHECKSUM_LENGTH:]


def hash_api_key(text: str, pepper: bytes) -> str:
    return hmac.digest(pepper, text.encode(), hashlib.sha256).hex()


def matches(text: str, stored_hash: str, peppers: Sequence[bytes]) -> bool:
    """Whether a key is the one behind a stored hash, under any of the peppers; constant time for each."""
    return any(hmac.compare_digest(hash_api_key(text, pepper), stored_hash) for pepper in peppers)


def _checksum(stem: str) -> str:
    return to_base62(zlib.crc32(stem.encode()), CHECKSUM_LENGTH)
