"""Who calls: keys, users, teams and limits held in memory, so that authentication costs the hot path no SQL.

SQL gone: callers in memory go on; an unknown key gets `ledger_unavailable`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice

import sqlalchemy as sa

from gateway.domain.api_key import KEY_STARTS, PREFIX_LENGTH, ApiKey, matches, parse_api_key
from gateway.domain.caller import Caller, Unusable, effective_limits
from gateway.domain.limits import DefaultLimit, Limit, ScopeKind
from gateway.errors import InvalidApiKey, LedgerUnavailable
from gateway.services.clock import clock
from gateway.storage import limits
from gateway.storage.accounts import CallerRow, find_caller
from gateway.storage.database import Database

_NOT_A_CALLERS = (
    "This is not a caller's key: those begin with dk_live_ or dk_test_. An administrator makes one "
    "(`darkroom key create`); keys of administrators are for /admin/v1 alone."
)
_MALFORMED = "This is not a Darkroom key: it has a wrong form or checksum. Was it copied whole?"
_UNKNOWN = "This key is not known here. Ask an administrator for a new one."

_READ_AT_ONCE = 100


class CallerDirectory:
    """Callers by key. Memory holds the last `capacity` used.

    A change in SQL drops whom it concerns; `run` reads them again at once, lest SQL be gone when they call next.
    """

    def __init__(
        self,
        database: Database,
        peppers: Sequence[bytes],
        default_user_limits: Sequence[DefaultLimit],
        *,
        capacity: int = 10_000,
        clock: Callable[[], float] = clock.now_s,
    ) -> None:
        self._database = database
        self._peppers = tuple(peppers)
        self._defaults = tuple(default_user_limits)
        self._capacity = capacity
        self._clock = clock
        self._held: OrderedDict[str, Caller] = OrderedDict()  # by the prefix of their keys
        self._tokens: dict[str, str] = {}  # by the prefix too
        self._proven: dict[str, Caller] = {}
        """By the whole key, of keys whose HMAC was found to fit. A look-up tells nothing by the time it takes: a
        dictionary compares text only where the whole hash agrees, which is keyed by the process's own secret."""
        self._prefixes: dict[str, set[str]] = {}  # by the id of a key, a user or a team
        self._generation = 0
        self._dropped: set[str] = set()  # by a change, and not read again yet
        self._drop_heard = asyncio.Event()

    async def authenticate(self, token: str) -> Caller:
        """Raises InvalidApiKey, KeyDisabled, and LedgerUnavailable when SQL is needed and gone."""
        return self.known(token) or await self._load(_parse(token))

    def known(self, token: str) -> Caller | None:
        """The caller from memory alone; None when SQL must be asked. Raises as `authenticate` does."""
        caller = self._proven.get(token)
        if caller is None:
            caller = self._held.get(token[:PREFIX_LENGTH])
            if caller is None:
                _parse(token)
                return None
            self._prove(caller, token)
        self._held.move_to_end(caller.key_prefix)
        return self._usable(caller)

    async def holder(self, prefix: str) -> Caller | None:
        """The caller whose key has this prefix, for those who have shown by other means that they may act as it.

        Raises InvalidApiKey and KeyDisabled for a key out of use.
        """
        caller = self._held.get(prefix) or await self._database.read(lambda conn: self._find(conn, prefix))
        return None if caller is None else self._usable(caller)

    def invalidate(self, kind: str, object_id: str) -> None:
        """Forget every caller whom a change of this team, user or key concerns."""
        if kind in {"team", "user", "key"}:
            self._generation += 1
            for prefix in tuple(self._prefixes.get(object_id, ())):
                self._drop(prefix)
                self._dropped.add(prefix)
                self._drop_heard.set()

    def clear(self) -> None:
        self._generation += 1
        self._held.clear()
        self._proven.clear()
        self._tokens.clear()
        self._prefixes.clear()

    async def run(self) -> None:
        """Reads again whom a change dropped, for as long as the process lives. With SQL gone nobody is read."""
        while True:
            await self._drop_heard.wait()
            self._drop_heard.clear()
            try:
                while self._dropped:
                    await self._read_dropped()
            except LedgerUnavailable:
                self._dropped.clear()

    async def _read_dropped(self) -> None:
        prefixes = tuple(islice(self._dropped, _READ_AT_ONCE))
        generation = self._generation
        found = await self._database.read(lambda conn: [self._find(conn, prefix) for prefix in prefixes])
        if generation != self._generation:
            return  # what was read may be what a change was about: once more
        self._dropped.difference_update(prefixes)
        for caller in found:
            if caller is not None and caller.key_prefix not in self._held:
                self._hold(caller)

    async def _load(self, key: ApiKey) -> Caller:
        generation = self._generation
        caller = await self._database.read(lambda conn: self._find(conn, key.prefix))
        if caller is None:
            raise InvalidApiKey(_UNKNOWN)
        # What was read before an invalidation may be what it was about: good for this call, not to be kept.
        if generation == self._generation:
            self._hold(caller)
        self._prove(caller, key.text)
        return self._usable(caller)

    def _find(self, conn: sa.Connection, prefix: str) -> Caller | None:
        row = find_caller(conn, prefix)
        return None if row is None else self._caller(row, limits.get_limits(conn, _scopes(row)))

    def _caller(self, row: CallerRow, own: Sequence[Limit]) -> Caller:
        defaults = [default.of(row.user_id) for default in self._defaults]
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
            disabled_ms=min(row.off_ms.values(), default=None),
            disabled_by=next(iter(row.off_ms), Unusable.DISABLED),
        )

    def _prove(self, caller: Caller, token: str) -> None:
        """The HMAC under each pepper decides, once for a key that is held. Raises InvalidApiKey."""
        if not matches(_parse(token).text, caller.key_hash, self._peppers):
            raise InvalidApiKey(_UNKNOWN)
        if self._held.get(caller.key_prefix) is caller:
            self._proven[token] = caller
            self._tokens[caller.key_prefix] = token

    def _usable(self, caller: Caller) -> Caller:
        if caller.expires_ms is not None or caller.disabled_ms is not None:
            caller.check_usable(int(self._clock() * 1000))
        return caller

    def _hold(self, caller: Caller) -> None:
        self._drop(caller.key_prefix)
        self._held[caller.key_prefix] = caller
        for object_id in _ids(caller):
            self._prefixes.setdefault(object_id, set()).add(caller.key_prefix)
        if len(self._held) > self._capacity:
            self._drop(next(iter(self._held)))

    def _drop(self, prefix: str) -> None:
        caller = self._held.pop(prefix, None)
        self._proven.pop(self._tokens.pop(prefix, ""), None)
        for object_id in () if caller is None else _ids(caller):
            self._prefixes[object_id].discard(prefix)
            if not self._prefixes[object_id]:
                del self._prefixes[object_id]


def _parse(token: str) -> ApiKey:
    key = parse_api_key(token)
    if key is None:
        raise InvalidApiKey(_MALFORMED if token.startswith(KEY_STARTS) else _NOT_A_CALLERS)
    return key


def _ids(caller: Caller) -> tuple[str, ...]:
    return tuple(filter(None, (caller.key_id, caller.user_id, caller.team_id)))


def _scopes(row: CallerRow) -> list[tuple[ScopeKind, str]]:
    found = [(ScopeKind.TEAM, row.team_id), (ScopeKind.USER, row.user_id), (ScopeKind.KEY, row.key_id)]
    return [(scope, scope_id) for scope, scope_id in found if scope_id is not None]
