"""Amounts as they are typed: plain digits, which every locale and the admin API read alike."""

from __future__ import annotations

import re

from gateway.cli.client import fail

_WHOLE = re.compile(r"[0-9]{1,16}")
_DOLLARS = re.compile(r"[0-9]{1,16}(\.[0-9]{1,15})?")


def require_amount(text: str, *, whole: bool = False) -> None:
    """`whole`: of what is counted in pieces."""
    if not (_WHOLE if whole else _DOLLARS).fullmatch(text):
        like = "50, a whole number" if whole else "50 or 0.5"
        fail(f"amount: {text!r} can't be read; write it like {like}, without signs or separators.")
