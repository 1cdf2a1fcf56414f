"""The way in: who calls, what is asked, whether it may.

`Admission` works in two strokes with the same functions: `try_now` does what memory allows without awaiting,
`complete` does the rest. Where the limits are shared with other replicas, `ask` is between them: it awaits nothing, and
tells when the answer is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from gateway.domain import cache_policy, fingerprint, image_request
from gateway.domain.api_key import Mode
from gateway.domain.caller import CacheScope, Caller
from gateway.domain.image_request import ImageRequest
from gateway.domain.model import Model
from gateway.domain.preferences import parse_idempotency_key, parse_prefer
from gateway.errors import DarkroomError, InvalidRequest, LimitExceeded
from gateway.services.callers import CallerDirectory
from gateway.services.calls import Call, parse_tags
from gateway.storage.idempotency import Claim
from gateway.storage.rate_limits import RateLimits, Verdict

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
        callers: CallerDirectory,
        rates: RateLimits,
        models: Mapping[str, Model],
        *,
        provider_of: Callable[[Mode, Model], tuple[str, str]],
        cache_scope: CacheScope,
        max_wait_s: float | None = None,
    ) -> None:
        """`provider_of` gives the name and kind of the provider that serves a model in a mode. `max_wait_s`: the
        longest that a call may wait for its picture.
        """
        self._callers = callers
        self._rates = rates
        self._models = models
        self._provider_of = provider_of
        self._cache_scope: CacheScope = cache_scope
        self._max_wait_s = max_wait_s
        self._known: dict[tuple[bytes, str, str], _Understood] = {}

    def try_now(self, call: Call) -> bool:
        """As far as memory allows. False: something has to be loaded, `complete` goes on. Raises DarkroomError."""
        if call.caller is None:
            call.caller = self._callers.known(call.head.token)
            if call.caller is None:
                return False
        if not call.admitted:
            now_ns = int(call.started_s * 1e9)
            verdict = self._rates.try_take(call.caller, now_ns=now_ns, now_ms=call.at_ms)
            if verdict is None:
                return False
            _heed(call, verdict)
        if call.request is None:
            self._validate(call, call.caller)
        return True

    def give_back(self, call: Call) -> None:
        """The call was refused by a limit of what it asked to buy: it does not count as a request."""
        if call.caller is not None and call.admitted:
            self._rates.give_back(call.caller, call_id=call.request_id)

    def ask(self, call: Call, done: Callable[[], None]) -> None:
        """Admit a call whose caller is known; `done` once it is admitted, or has a refusal, or `complete` has to go on.

        A call that is not admitted yet is one that `complete` may admit: so it takes nothing twice.
        """
        caller = call.caller
        assert caller is not None

        def heard(verdict: Verdict | None) -> None:
            try:
                if verdict is not None:
                    _heed(call, verdict)
            except LimitExceeded as refusal:
                call.refusal = refusal
            done()

        now_ns = int(call.started_s * 1e9)
        self._rates.ask(caller, call_id=call.request_id, now_ns=now_ns, now_ms=call.at_ms, heard=heard)

    def understand(self, call: Call) -> bool:
        """Whether memory knows the caller, and the request may be served. Takes nothing, and refuses nothing."""
        try:
            call.caller = call.caller or self._callers.known(call.head.token)
            if call.caller is None:
                return False
            if call.request is None:
                self._validate(call, call.caller)
        except DarkroomError:  # for `complete` to say, in its turn
            return False
        return True

    async def identify(self, call: Call) -> None:
        """Authenticate and validate a call that only asks: it takes nothing of a limit. Raises DarkroomError."""
        call.caller = call.caller or await self._callers.authenticate(call.head.token)
        self._validate(call, call.caller)

    async def complete(self, call: Call) -> None:
        """What `try_now` could not. Raises DarkroomError."""
        while not self.try_now(call):  # a key may be forgotten while its limits are asked for
            caller = call.caller = call.caller or await self._callers.authenticate(call.head.token)
            now_ns = int(call.started_s * 1e9)
            _heed(call, await self._rates.take(caller, call_id=call.request_id, now_ns=now_ns, now_ms=call.at_ms))

    def _validate(self, call: Call, caller: Caller) -> None:
        head = call.head
        scope = caller.cache_scope(self._cache_scope)
        asked = (call.body, caller.mode_name, scope)
        known = self._known.get(asked)
        if known is None:
            known = self._understood(call, caller, scope)
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
            self._heed_wishes(call, caller, request)
        call.body = b""  # a call waits for seconds; its body need not

    def _heed_wishes(self, call: Call, caller: Caller, request: ImageRequest) -> None:
        """How the caller wants to be answered. Raises InvalidRequest."""
        key = parse_idempotency_key(call.head.idempotency_key)
        if key is not None:
            told = f"{call.fingerprint} {request.response_format}"
            call.claim = Claim(caller.key_id, key, hashlib.sha256(told.encode()).hexdigest())
        wish = parse_prefer(call.head.prefer)
        waits = [wait for wait in (wish.wait_s, self._max_wait_s) if wait is not None]
        call.wait_s = min(waits, default=None)
        call.respond_async = wish.respond_async

    def _understood(self, call: Call, caller: Caller, scope: str) -> _Understood:
        """Raises DarkroomError: first for a model the caller may not use, then for what is wrong with the request."""
        try:
            data = image_request.decode_body(call.body)
        except InvalidRequest as refusal:
            raise image_request.sent_wrong(call.head.content_type, call.head.content_encoding) or refusal from None
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


def _heed(call: Call, verdict: Verdict) -> None:
    """Raises LimitExceeded."""
    call.rates = verdict.states
    if verdict.refusal is not None:
        raise verdict.refusal
    call.admitted = True


def _plan(request: ImageRequest, cache_control: str | None) -> cache_policy.CachePlan:
    directives = cache_policy.parse_directives(cache_control)
    return cache_policy.plan(deterministic=request.model.deterministic, seeded=request.seeded, directives=directives)
