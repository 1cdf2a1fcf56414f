"""Public ids: a prefix that says what it names, then 24 unguessable characters of 144 random bits."""

from __future__ import annotations

import base64
import os
import secrets
from typing import Literal

IdKind = Literal["team", "user", "key", "gen", "img", "req", "evt"]

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LETTERS = b"dk"


def new_id(kind: IdKind) -> str:
    """Base 64 with letters for its two signs, which so come twice as often: each call needs one, and soon."""
    return f"{kind}_{base64.b64encode(os.urandom(18), _LETTERS).decode()}"


def random_base62(length: int) -> str:
    """`length` characters, uniform: one draw of enough random bits, written in base 62."""
    return to_base62(secrets.randbelow(62**length), length)


def to_base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, rest = divmod(number, 62)
        digits.append(BASE62[rest])
    return "".join(reversed(digits))
