"""Who calls: keys, users, teams and limits held in memory, so that authentication costs the hot path no SQL.

SQL gone: callers in memory go on; an unknown key gets `ledger_unavailable`.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from gateway.domain.api_key import PREFIX_LENGTH, ApiKey, matches, parse_api_key
from gateway.domain.caller import Caller, effective_limits
from gateway.domain.limits import Limit, Metric, ScopeKind, Window
from gateway.errors import InvalidApiKey
from gateway.storage import limits
from gateway.storage.accounts import CallerRow, find_caller
from gateway.storage.database import Database

_MALFORMED = "This is not a Darkroom key: it has a wrong form or checksum. Was it copied whole?"
_UNKNOWN = "This key is not known here. Ask an administrator for a new one."


@dataclass(slots=True)
class _Held:
    """A caller in memory. `digest` is the SHA-256 of the key that the stored HMAC has been compared with and fits."""

    caller: Caller
    digest: bytes = b""


class CallerDirectory:
    """Callers by key. Memory holds the last `capacity` used; a change in SQL drops whom it concerns."""

    def __init__(
        self,
        database: Database,
        peppers: Sequence[bytes],
        default_user_limits: Sequence[tuple[Metric, Window, int]],
        *,
        capacity: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._peppers = tuple(peppers)
        self._defaults = tuple(default_user_limits)
        self._capacity = capacity
        self._clock = clock
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._prefixes: dict[str, set[str]] = {}  # by the id of a key, a user or a team
        self._generation = 0

    async def authenticate(self, token: str) -> Caller:
        """Raises InvalidApiKey, KeyDisabled, and LedgerUnavailable when SQL is needed and gone."""
        return self.known(token) or await self._load(_parse(token))

    def known(self, token: str) -> Caller | None:
        """The caller from memory alone; None when SQL must be asked. Raises as `authenticate` does."""
        held = self._held.get(token[:PREFIX_LENGTH])
        if held is None:
            _parse(token)
            return None
        self._held.move_to_end(held.caller.key_prefix)
        return self._admitted(held, token)

    def invalidate(self, kind: str, object_id: str) -> None:
        """Forget every caller whom a change of this team, user or key concerns."""
        if kind in {"team", "user", "key"}:
            self._generation += 1
            for prefix in tuple(self._prefixes.get(object_id, ())):
                self._drop(prefix)

    def clear(self) -> None:
        self._generation += 1
        self._held.clear()
        self._prefixes.clear()

    async def _load(self, key: ApiKey) -> Caller:
        generation = self._generation
        caller = await self._database.read(lambda conn: self._find(conn, key.prefix))
        if caller is None:
            raise InvalidApiKey(_UNKNOWN)
        held = _Held(caller)
        # What was read before an invalidation may be what it was about: good for this call, not to be kept.
        if generation == self._generation:
            self._hold(held)
        return self._admitted(held, key.text)

    def _find(self, conn: sa.Connection, prefix: str) -> Caller | None:
        row = find_caller(conn, prefix)
        return None if row is None else self._caller(row, limits.get_limits(conn, _scopes(row)))

    def _caller(self, row: CallerRow, own: Sequence[Limit]) -> Caller:
        defaults = [Limit(ScopeKind.USER, row.user_id, *default) for default in self._defaults]
        return Caller(
            key_id=row.key_id,
            key_prefix=row.key_prefix,
            key_hash=row.key_hash,
            user_id=row.user_id,
            team_id=row.team_id,
            mode=row.mode,
            models=None if row.models is None else frozenset(row.models),
            labels={name: value for labels in row.labels for name, value in labels.items()},
            limits=effective_limits(defaults=defaults, own=own),
            expires_ms=row.expires_ms,
            disabled_ms=min((at for at in row.off_ms if at is not None), default=None),
        )

    def _admitted(self, held: _Held, token: str) -> Caller:
        """A key seen before costs one SHA-256; the HMAC under each pepper decides about any other."""
        digest = hashlib.sha256(token.encode()).digest()
        if not hmac.compare_digest(digest, held.digest):
            if not matches(_parse(token).text, held.caller.key_hash, self._peppers):
                raise InvalidApiKey(_UNKNOWN)
            held.digest = digest
        held.caller.check_usable(int(self._clock() * 1000))
        return held.caller

    def _hold(self, held: _Held) -> None:
        caller = held.caller
        self._drop(caller.key_prefix)
        self._held[caller.key_prefix] = held
        for object_id in _ids(caller):
            self._prefixes.setdefault(object_id, set()).add(caller.key_prefix)
        if len(self._held) > self._capacity:
            self._drop(next(iter(self._held)))

    def _drop(self, prefix: str) -> None:
        held = self._held.pop(prefix, None)
        for object_id in () if held is None else _ids(held.caller):
            self._prefixes[object_id].discard(prefix)
            if not self._prefixes[object_id]:
                del self._prefixes[object_id]


def _parse(token: str) -> ApiKey:
    key = parse_api_key(token)
    if key is None:
        raise InvalidApiKey(_MALFORMED)
    return key


def _ids(caller: Caller) -> tuple[str, ...]:
    return tuple(filter(None, (caller.key_id, caller.user_id, caller.team_id)))


def _scopes(row: CallerRow) -> list[tuple[ScopeKind, str]]:
    found = [(ScopeKind.TEAM, row.team_id), (ScopeKind.USER, row.user_id), (ScopeKind.KEY, row.key_id)]
    return [(scope, scope_id) for scope, scope_id in found if scope_id is not None]
