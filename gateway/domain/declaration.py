"""Accounts as a file declares them: teams, users with their keys, and limits. Names identify them within their file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from gateway.domain.api_key import PREFIX_LENGTH, PUBLIC_LENGTH, Mode
from gateway.domain.limits import Metric, Window
from gateway.errors import InvalidRequest

_HASH = re.compile(r"[0-9a-f]{64}")
_PUBLIC = re.compile(f"[0-9A-Za-z]{{{PUBLIC_LENGTH}}}")


class LimitEntry(NamedTuple):
    """A limit as an administrator writes it."""

    metric: Metric
    window: Window
    amount: str
    alert_at: tuple[int, ...] = ()


class DeclaredKey(msgspec.Struct, frozen=True, kw_only=True):
    """`prefix` and `hash` are those of a key made elsewhere (`darkroom key hash`); `models` None: every model."""

    name: str
    mode: Mode
    prefix: str
    hash: str
    models: list[str] | None = None
    labels: dict[str, str] = {}
    expires_ms: int | None = None
    limits: Sequence[LimitEntry] = ()


class DeclaredUser(msgspec.Struct, frozen=True, kw_only=True):
    """`team` is the name of a team of the same file."""

    name: str
    email: str | None = None
    team: str | None = None
    labels: dict[str, str] = {}
    limits: Sequence[LimitEntry] = ()
    keys: Sequence[DeclaredKey] = ()


class DeclaredTeam(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    labels: dict[str, str] = {}
    limits: Sequence[LimitEntry] = ()


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """`source`: the file's name, by which later changes of what it declares are refused."""

    source: str
    teams: Sequence[DeclaredTeam] = ()
    users: Sequence[DeclaredUser] = ()

    def check(self) -> None:
        """Raises InvalidRequest with the first thing that can't be: a name twice, a team that is none, a bad hash."""
        teams = [team.name for team in self.teams]
        _check_once("teams", teams)
        _check_once("users", [user.name for user in self.users])
        _check_once("keys with prefix", [key.prefix for user in self.users for key in user.keys])
        for user in self.users:
            _check_once(f"users[{user.name}].keys", [key.name for key in user.keys])
            if user.team is not None and user.team not in teams:
                known = ", ".join(teams) or "none"
                raise InvalidRequest(f"users[{user.name}].team: {user.team} is no team of this file; it has: {known}.")
            for key in user.keys:
                _check_key(f"users[{user.name}].keys[{key.name}]", key)


def _check_once(where: str, names: Sequence[str]) -> None:
    for twice in _repeated(names):
        raise InvalidRequest(f"{where}: {twice} stands there twice; each name may stand once.")


def _repeated(names: Sequence[str]) -> Iterator[str]:
    seen = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)


def _check_key(where: str, key: DeclaredKey) -> None:
    start = f"dk_{key.mode}_"
    public = key.prefix.removeprefix(start)
    if len(key.prefix) != PREFIX_LENGTH or public == key.prefix or not _PUBLIC.fullmatch(public):
        raise InvalidRequest(
            f"{where}.prefix: the prefix of a {key.mode} key is {start} and {PUBLIC_LENGTH} letters and digits; "
            "`darkroom key hash` prints it."
        )
    if not _HASH.fullmatch(key.hash):
        raise InvalidRequest(f"{where}.hash: a hash is 64 digits of 0-9a-f; `darkroom key hash` prints it.")
