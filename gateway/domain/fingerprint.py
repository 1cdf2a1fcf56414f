"""The identity of a request: equal fingerprint = equal upstream body, within one scope, provider and version."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

SCHEMA_VERSION = 1

_encode = msgspec.json.Encoder(order="deterministic").encode


def identity(*, mode: str, scope: str, provider_kind: str, upstream_model: str, version: str) -> bytes:
    """What a fingerprint holds besides the parameters. The same for every call of a scope to a model."""
    return _encode([SCHEMA_VERSION, mode, scope, provider_kind, upstream_model, version])


def fingerprint(identity: bytes, parameters: dict[str, Any]) -> str:
    """SHA-256, hex, over the identity and the canonical parameters with sorted keys.

    Two JSON texts one after the other can't be read as another pair: the first is a whole array.
    """
    return hashlib.sha256(identity + _encode(parameters)).hexdigest()
