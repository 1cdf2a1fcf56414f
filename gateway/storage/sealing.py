"""Secrets at rest: AES-GCM, bound to their place.

`v1:KEY:NONCE:CIPHERTEXT`, the last two in URL-safe base64. The place (table, row and field) is authenticated with it,
so a ciphertext that was moved to another row does not open.

The library is imported with the first secret: many a gateway stores none, and it takes a tenth of the memory.
"""

from __future__ import annotations

import hashlib
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = "v1"
_NONCE_BYTES = 12


class Sealer:
    """The first key seals, all open. Keys are of 32 bytes."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._first = key_id(keys[0])
        self._keys = {key_id(key): key for key in keys}

    def seal(self, secret: str, *, place: str) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = _cipher(self._keys[self._first]).encrypt(nonce, secret.encode(), place.encode())
        return ":".join((_VERSION, self._first, _text(nonce), _text(sealed)))

    def open(self, sealed: str, *, place: str) -> str:
        """Raises ConfigurationError when no key fits, or what is there was changed or moved."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        try:
            version, name, nonce, data = sealed.split(":")
            key = self._keys.get(name)
            if key is None or version != _VERSION:
                raise ConfigurationError(
                    f"security.encryption_keys lacks the key {name[:16]!r} that {place} was sealed with."
                )
            return _cipher(key).decrypt(urlsafe_b64decode(nonce), urlsafe_b64decode(data), place.encode()).decode()
        except (InvalidTag, ValueError) as exc:
            raise ConfigurationError(f"What is stored as {place} was changed, or belongs to another row.") from exc

    def is_current(self, sealed: str) -> bool:
        """Whether the first key sealed it."""
        return sealed.startswith(f"{_VERSION}:{self._first}:")


def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    return AESGCM(key)


def key_id(key: bytes) -> str:
    """What a secret is called where it must not be shown."""
    return hashlib.sha256(key).hexdigest()[:8]


def sealed_by(sealed: str) -> str:
    """The id of the key that opens it."""
    return sealed.split(":")[1]


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode()
