"""What webhooks are sent and how it is signed: Standard Webhooks (standardwebhooks.com, version 1.0.0)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from gateway.errors import InvalidRequest

_PREFIX = "whsec_"
_SECRET_BYTES = 32
_LONGEST_URL = 2000
BACK_OFF_S = (5, 30, 120, 600, 3600, 6 * 3600, 24 * 3600)
"""After each attempt that failed, the pause before the next; after the last of them there is one more, and no other."""


def new_secret() -> str:
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signed_headers(secret: str, *, message_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The three headers of a message. The id stays the same when it is sent again."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    mac = hmac.digest(key, b"%b.%d.%b" % (message_id.encode(), at_s, body), hashlib.sha256)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


def next_attempt_ms(attempts: int, now_ms: int) -> int | None:
    """When to try again what has failed so many times; None: never."""
    if attempts > len(BACK_OFF_S):
        return None
    return now_ms + BACK_OFF_S[attempts - 1] * 1000


def masked(url: str) -> str:
    """Where it goes, without what may be a secret: whoever knows the whole address of a chat's hook can post there."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    return url if url in {origin, f"{origin}/"} else f"{origin}/..."


def check_url(url: str) -> str:
    """Raises InvalidRequest for what can't be posted to, and for an address that holds a password."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidRequest("url: give an address like https://hooks.example.com/darkroom.", param="url")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("url: leave name and password out of it; the signature says who sends.", param="url")
    return url
