"""A call on its way in: who calls, what is asked, whether the cache may answer; then its row in the usage log.

`Admission` works in two strokes with the same functions: `try_now` does what memory allows without awaiting (the
thin path), `complete` does the rest (the route).
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.domain import cache_policy, fingerprint, image_request
from gateway.domain.api_key import Mode
from gateway.domain.caller import CacheScope, Caller
from gateway.domain.ids import new_id
from gateway.domain.image_request import ImageRequest
from gateway.domain.model import Model
from gateway.domain.preferences import is_retry, parse_idempotency_key, parse_prefer
from gateway.errors import DarkroomError, InvalidRequest, LimitExceeded
from gateway.services.callers import CallerDirectory
from gateway.storage import usage_log
from gateway.storage.database import Database
from gateway.storage.idempotency import Claim
from gateway.storage.rate_limits import MemoryRateLimits, RateState

_TAG = re.compile(r"\s*([A-Za-z0-9_.-]{1,64})\s*=\s*([^,=\s][^,=]{0,127}?)\s*")
_MAX_TAGS = 16
_KNOWN_BODIES = 2048
_KNOWN_BODY_BYTES = 4096


class Call(msgspec.Struct):
    """One request by a caller. Fields are filled in as they become known.

    `generation_id` is the purchase it waits for; `owns`: whose picture its equal repeat gets if this call goes without.
    `left`: its connection was seen to close.
    """

    token: str
    body: bytes
    cache_control: str | None = None
    tags_header: str | None = None
    client_request_id: str | None = None
    idempotency_header: str | None = None
    prefer_header: str | None = None
    retry_header: str | None = None
    request_id: str = msgspec.field(default_factory=lambda: new_id("req"))
    at_ms: int = msgspec.field(default_factory=lambda: time.time_ns() // 1_000_000)
    started_s: float = msgspec.field(default_factory=time.monotonic)
    caller: Caller | None = None
    rates: Sequence[RateState] = ()
    admitted: bool = False
    request: ImageRequest | None = None
    tags: dict[str, str] | None = None
    plan: cache_policy.CachePlan | None = None
    fingerprint: str = ""
    provider: str = ""
    refusal: DarkroomError | None = None
    claim: Claim | None = None
    wait_s: float | None = None
    respond_async: bool = False
    generation_id: str | None = None
    owns: bool = False
    left: bool = False

    @property
    def retried(self) -> bool:
        return is_retry(self.retry_header)

    @property
    def repeat_key(self) -> str:
        """The same for equal calls of one key, one end user (`user`) and one wish about the cache."""
        caller, request, plan = self.known
        parts = (caller.key_id, self.fingerprint, request.user or "", str(plan.readable))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def latency_us(self) -> int:
        return int((time.monotonic() - self.started_s) * 1_000_000)

    @property
    def known(self) -> tuple[Caller, ImageRequest, cache_policy.CachePlan]:
        """Caller, request and plan of an admitted call."""
        if self.caller is None or self.request is None or self.plan is None:
            raise RuntimeError("the call was not admitted")
        return self.caller, self.request, self.plan

    def usage_row(
        self,
        outcome: str,
        *,
        status: int = 200,
        code: str | None = None,
        images: int = 0,
        cost_micro_usd: int | None = 0,
        saved_micro_usd: int = 0,
        generation_id: str | None = None,
        provider: str | None = None,
    ) -> dict[str, Any]:
        """This call as a row of the usage log."""
        caller = self.caller
        if caller is None:
            raise RuntimeError("a call without a caller has no row")
        return {
            "id": self.request_id,
            "at_ms": self.at_ms,
            "mode": caller.mode.value,
            "key_id": caller.key_id,
            "user_id": caller.user_id,
            "team_id": caller.team_id,
            "model": self.request.model.name if self.request else None,
            "provider": provider,
            "outcome": outcome,
            "status": status,
            "code": code,
            "images": images,
            "cost_micro_usd": cost_micro_usd,
            "saved_micro_usd": saved_micro_usd,
            "latency_us": self.latency_us,
            "generation_id": generation_id,
            "tags": self.tags,
            "labels": dict(caller.labels) or None,
        }


def parse_tags(header: str | None) -> dict[str, str] | None:
    """`Darkroom-Tags: app=search,env=prod`. Raises InvalidRequest for anything else."""
    if not header:
        return None
    pairs = [_TAG.fullmatch(part) for part in header.split(",")]
    if len(pairs) > _MAX_TAGS or not all(pairs):
        raise InvalidRequest(
            f"Darkroom-Tags must be up to {_MAX_TAGS} pairs like app=search,env=prod, names of A-Za-z0-9_.-",
            param="Darkroom-Tags",
        )
    return {pair[1]: pair[2] for pair in pairs if pair}


class _Understood(NamedTuple):
    """What a body comes to, for callers of one mode and cache scope. Depends on nothing that changes."""

    request: ImageRequest
    provider: str
    fingerprint: str


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
        self._known: dict[tuple[bytes, Mode, str], _Understood] = {}

    def try_now(self, call: Call) -> bool:
        """As far as memory allows. False: something has to be loaded, `complete` goes on. Raises DarkroomError."""
        if call.caller is None:
            call.caller = self._callers.known(call.token)
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
        call.caller = await self._callers.authenticate(call.token)
        self._validate(call, call.caller)

    async def complete(self, call: Call) -> None:
        """What `try_now` could not. Raises DarkroomError."""
        while not self.try_now(call):  # a key may be forgotten, a window may begin, while the counts are loaded
            call.caller = call.caller or await self._callers.authenticate(call.token)
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
        scope = caller.cache_scope(self._cache_scope)
        asked = (call.body, caller.mode, scope)
        known = self._known.get(asked)
        if known is None:
            known = self._understood(call.body, caller, scope)
            if len(call.body) <= _KNOWN_BODY_BYTES:
                self._remember(asked, known)
        request = known.request
        caller.check_model(request.model.name)
        call.tags = parse_tags(call.tags_header)
        directives = cache_policy.parse_directives(call.cache_control)
        call.plan = cache_policy.plan(
            deterministic=request.model.deterministic, seeded=request.seeded, directives=directives
        )
        call.provider = known.provider
        call.fingerprint = known.fingerprint
        call.request = request
        if call.idempotency_header is not None or call.prefer_header is not None or self._max_wait_s is not None:
            self._heed(call, caller, request)
        call.body = b""  # a call waits for seconds; its body need not

    def _heed(self, call: Call, caller: Caller, request: ImageRequest) -> None:
        """How the caller wants to be answered. Raises InvalidRequest."""
        key = parse_idempotency_key(call.idempotency_header)
        if key is not None:
            told = f"{call.fingerprint} {request.response_format}"
            call.claim = Claim(caller.key_id, key, hashlib.sha256(told.encode()).hexdigest())
        wish = parse_prefer(call.prefer_header)
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
        return _Understood(request, provider, fingerprint.fingerprint(identity, request.parameters))

    def _remember(self, asked: tuple[bytes, Mode, str], known: _Understood) -> None:
        """Hits are bodies that come again; the oldest makes room."""
        if len(self._known) >= _KNOWN_BODIES:
            del self._known[next(iter(self._known))]
        self._known[asked] = known
