"""The way in: who calls, what is asked, whether it may.

`Admission` works in two strokes with the same functions: `try_now` does what memory allows without awaiting,
`complete` does the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gateway.domain import cache_policy, fingerprint, image_request
from gateway.domain.api_key import Mode
from gateway.domain.caller import CacheScope, Caller
from gateway.domain.image_request import ImageRequest
from gateway.domain.model import Model
from gateway.domain.preferences import parse_idempotency_key, parse_prefer
from gateway.errors import LimitExceeded
from gateway.services.callers import CallerDirectory
from gateway.services.calls import Call, parse_tags
from gateway.storage import usage_log
from gateway.storage.database import Database
from gateway.storage.idempotency import Claim
from gateway.storage.rate_limits import MemoryRateLimits

_KNOWN_BODIES = 2048
_KNOWN_BODY_BYTES = 4096


class _Understood(NamedTuple):
    """What a body comes to, for callers of one mode and cache scope. Depends on nothing that changes."""

    request: ImageRequest
    provider: str
    fingerprint: str
    plan: cache_policy.CachePlan
    """Of a call that says nothing about caches."""


class Admission:
    """authenticate -> admit (rate) -> parse, validate -> canonical request -> fingerprint."""

    def __init__(
        self,
        database: Database,
        callers: CallerDirectory,
        rates: MemoryRateLimits,
        models: Mapping[str, Model],
        *,
        provider_of: Callable[[Mode, Model], tuple[str, str]],
        cache_scope: CacheScope,
        flush_usage: Callable[[], Any],
        max_wait_s: float | None = None,
    ) -> None:
        """`provider_of` gives the name and kind of the provider that serves a model in a mode. `max_wait_s`: the
        longest that a call may wait for its picture.
        """
        self._database = database
        self._callers = callers
        self._rates = rates
        self._models = models
        self._provider_of = provider_of
        self._cache_scope: CacheScope = cache_scope
        self._flush_usage = flush_usage
        self._max_wait_s = max_wait_s
        self._known: dict[tuple[bytes, str, str], _Understood] = {}

    def try_now(self, call: Call) -> bool:
        """As far as memory allows. False: something has to be loaded, `complete` goes on. Raises DarkroomError."""
        if call.caller is None:
            call.caller = self._callers.known(call.head.token)
            if call.caller is None:
                return False
        if not call.admitted:
            if self._rates.missing(call.caller, call.at_ms):
                return False
            self._admit(call, call.caller)
        if call.request is None:
            self._validate(call, call.caller)
        return True

    def give_back(self, call: Call) -> None:
        """The call was refused by a limit of what it asked to buy: it does not count as a request."""
        if call.caller is not None and call.admitted:
            self._rates.give_back(call.caller)

    async def identify(self, call: Call) -> None:
        """Authenticate and validate a call that only asks: it takes nothing of a limit. Raises DarkroomError."""
        call.caller = await self._callers.authenticate(call.head.token)
        self._validate(call, call.caller)

    async def complete(self, call: Call) -> None:
        """What `try_now` could not. Raises DarkroomError."""
        while not self.try_now(call):  # a key may be forgotten, a window may begin, while the counts are loaded
            call.caller = call.caller or await self._callers.authenticate(call.head.token)
            await self.load_counts(call.caller, call.at_ms)

    async def load_counts(self, caller: Caller, at_ms: int) -> None:
        """Bring counts of long windows into memory, rows still in the journal included."""
        missing = self._rates.missing(caller, at_ms)
        if not missing:
            return
        await self._flush_usage()
        for limit, start_ms in missing:
            calls = await self._database.read(
                lambda conn, limit=limit, start_ms=start_ms: usage_log.count_requests(  # type: ignore[misc]
                    conn,
                    mode=caller.mode.value,
                    scope_column=f"{limit.scope}_id",
                    scope_id=limit.scope_id,
                    since_ms=start_ms,
                )
            )
            self._rates.load(caller, limit, start_ms, calls)

    def _admit(self, call: Call, caller: Caller) -> None:
        now_ns = int(call.started_s * 1e9)
        try:
            call.rates = self._rates.take(caller, now_ns=now_ns, now_ms=call.at_ms)
        except LimitExceeded:
            call.rates = self._rates.look(caller, now_ns=now_ns, now_ms=call.at_ms)
            raise
        call.admitted = True

    def _validate(self, call: Call, caller: Caller) -> None:
        head = call.head
        scope = caller.cache_scope(self._cache_scope)
        asked = (call.body, caller.mode_name, scope)
        known = self._known.get(asked)
        if known is None:
            known = self._understood(call.body, caller, scope)
            if len(call.body) <= _KNOWN_BODY_BYTES:
                self._remember(asked, known)
        request = known.request
        caller.check_model(request.model.name)
        if head.tags is not None:
            call.tags = parse_tags(head.tags)
        call.plan = known.plan if head.cache_control is None else _plan(request, head.cache_control)
        call.provider = known.provider
        call.fingerprint = known.fingerprint
        call.request = request
        if head.idempotency_key is not None or head.prefer is not None or self._max_wait_s is not None:
            self._heed(call, caller, request)
        call.body = b""  # a call waits for seconds; its body need not

    def _heed(self, call: Call, caller: Caller, request: ImageRequest) -> None:
        """How the caller wants to be answered. Raises InvalidRequest."""
        key = parse_idempotency_key(call.head.idempotency_key)
        if key is not None:
            told = f"{call.fingerprint} {request.response_format}"
            call.claim = Claim(caller.key_id, key, hashlib.sha256(told.encode()).hexdigest())
        wish = parse_prefer(call.head.prefer)
        waits = [wait for wait in (wish.wait_s, self._max_wait_s) if wait is not None]
        call.wait_s = min(waits, default=None)
        call.respond_async = wish.respond_async

    def _understood(self, body: bytes, caller: Caller, scope: str) -> _Understood:
        """Raises DarkroomError: first for a model the caller may not use, then for what is wrong with the request."""
        data = image_request.decode_body(body)
        model = image_request.model_of(data, self._models)
        caller.check_model(model.name)
        request = image_request.parse_request(data, model)
        provider, kind = self._provider_of(caller.mode, model)
        identity = fingerprint.identity(
            mode=caller.mode,
            scope=scope,
            provider_kind=kind,
            upstream_model=model.upstream_model,
            version=model.version,
        )
        print_ = fingerprint.fingerprint(identity, request.parameters)
        return _Understood(request, provider, print_, _plan(request, None))

    def _remember(self, asked: tuple[bytes, str, str], known: _Understood) -> None:
        """Hits are bodies that come again; the oldest makes room."""
        if len(self._known) >= _KNOWN_BODIES:
            del self._known[next(iter(self._known))]
        self._known[asked] = known


def _plan(request: ImageRequest, cache_control: str | None) -> cache_policy.CachePlan:
    directives = cache_policy.parse_directives(cache_control)
    return cache_policy.plan(deterministic=request.model.deterministic, seeded=request.seeded, directives=directives)
