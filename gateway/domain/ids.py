"""Public ids: a prefix that says what it names, then 24 characters.

They are unguessable, 144 random bits, but for those of requests: 12 hexadecimal digits of the time and 72 random bits.
Rows of the usage log so enter its index at the end, not all over it, and stay cheap to insert when there are millions.
"""

from __future__ import annotations

import base64
import os
import secrets
import time
from typing import Literal

IdKind = Literal["team", "user", "key", "gen", "img", "req", "evt", "adj", "pkey"]

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LETTERS = b"dk"


def new_id(kind: IdKind) -> str:
    if kind == "req":
        return f"req_{time.time_ns() // 1_000_000:012x}{_random(9)}"
    return f"{kind}_{_random(18)}"


def _random(size_bytes: int) -> str:
    """Base 64 with letters for its two signs, which so come twice as often: each call needs one, and soon."""
    return base64.b64encode(os.urandom(size_bytes), _LETTERS).decode()


def random_base62(length: int) -> str:
    """`length` characters, uniform: one draw of enough random bits, written in base 62."""
    return to_base62(secrets.randbelow(62**length), length)


def to_base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, rest = divmod(number, 62)
        digits.append(BASE62[rest])
    return "".join(reversed(digits))
