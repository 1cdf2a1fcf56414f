"""Public ids: a prefix that says what it names, then 24 characters.

They are unguessable, 144 random bits, but for those of requests, which open nothing: 12 hexadecimal digits of the time
in milliseconds and 12 at random. Rows of the usage log so enter it at its end, and stay cheap to insert when there are
millions.
"""

from __future__ import annotations

import base64
import os
import random
import secrets
import time
from typing import Literal

IdKind = Literal["team", "user", "key", "gen", "img", "req", "evt", "adj", "pkey", "adm", "hook", "alert", "dlv"]

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LETTERS = b"dk"
"""In place of base 64's two signs: these so come twice as often."""


def new_id(kind: IdKind) -> str:
    if kind == "req":
        return f"req_{time.time_ns() // 1_000_000:012x}{random.getrandbits(48):012x}"
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
