"""An administrator's key: `dk_admin_`, then what a caller's key has (`api_key`)."""

from __future__ import annotations

from typing import NamedTuple

from gateway.domain.api_key import PUBLIC_LENGTH, is_whole, new_text

_START = "dk_admin_"
_PREFIX_LENGTH = len(_START) + PUBLIC_LENGTH


class AdminKey(NamedTuple):
    """A well-formed one. `prefix` names it in lists; `text` is the secret whole."""

    text: str
    prefix: str

    def __repr__(self) -> str:
        return f"AdminKey({self.prefix}...)"


def new_admin_key() -> AdminKey:
    return _named(new_text(_START))


def parse_admin_key(text: str) -> AdminKey | None:
    """None when the form or the checksum is wrong."""
    return _named(text) if is_whole(text, _START) else None


def _named(text: str) -> AdminKey:
    return AdminKey(text, text[:_PREFIX_LENGTH])
