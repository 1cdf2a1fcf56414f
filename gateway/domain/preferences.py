"""What a caller says about how it wants to be answered: `Idempotency-Key`, `Prefer`, the SDKs' count of retries."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.errors import InvalidRequest

MAX_KEY_LENGTH = 255
_STRING = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_VISIBLE = re.compile(r"[!-~]+(?: +[!-~]+)*")
_WAIT = re.compile(r"\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*", re.IGNORECASE)
_ASYNC = re.compile(r"\s*respond-async\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Preferences:
    """Of RFC 7240. `wait_s` None: as long as it takes."""

    wait_s: float | None = None
    respond_async: bool = False


def parse_prefer(header: str | None) -> Preferences:
    """What is not understood is ignored (RFC 7240, section 2). `respond-async` alone does not wait at all."""
    if not header:
        return Preferences()
    parts = [part.split(";")[0] for part in header.split(",")]
    waits = [int(found[1]) for part in parts if (found := _WAIT.fullmatch(part))]
    respond_async = any(_ASYNC.fullmatch(part) for part in parts)
    wait_s = float(waits[0]) if waits else 0.0 if respond_async else None
    return Preferences(wait_s, respond_async)


def parse_idempotency_key(header: str | None) -> str | None:
    """A string in quotes (draft-ietf-httpapi-idempotency-key-header) or the bare token. Raises InvalidRequest."""
    if header is None:
        return None
    text = header.strip()
    quoted = _STRING.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if len(key) > MAX_KEY_LENGTH or not _VISIBLE.fullmatch(key) or (not quoted and '"' in key):
        raise InvalidRequest(
            f'Idempotency-Key must be 1 to {MAX_KEY_LENGTH} visible ASCII characters, like "8e03978e-40d5-43dd".',
            param="Idempotency-Key",
        )
    return key


def is_retry(header: str | None) -> bool:
    """`x-stainless-retry-count` above 0: the OpenAI SDKs ask again."""
    return header is not None and header.strip().isdecimal() and int(header) > 0
