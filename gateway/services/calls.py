"""A call on its way: what came, what it comes to, and its row in the usage log."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence

import msgspec

from gateway.domain import cache_policy
from gateway.domain.caller import Caller
from gateway.domain.ids import new_id
from gateway.domain.image_request import ImageRequest
from gateway.domain.preferences import is_retry
from gateway.domain.usage_row import UsageRow
from gateway.errors import DarkroomError, InvalidRequest
from gateway.services.clock import clock
from gateway.storage.idempotency import Claim
from gateway.storage.rate_limits import RateState

_TAG = re.compile(r"\s*([A-Za-z0-9_.-]{1,64})\s*=\s*([^,=\s][^,=]{0,127}?)\s*")
_MAX_TAGS = 16


class Head(msgspec.Struct, frozen=True):
    """What the headers of a call say that matters, each as it came. `from_page`: a browser sent it, for a web page."""

    token: str = ""
    content_length: int | None = None
    cache_control: str | None = None
    tags: str | None = None
    client_request_id: str | None = None
    idempotency_key: str | None = None
    prefer: str | None = None
    retry_count: str | None = None
    from_page: bool = False
    traceparent: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None


class Call(msgspec.Struct):
    """One request by a caller. Fields are filled in as they become known.

    `generation_id` is the purchase it waits for; `owns`: whose picture its equal repeat gets if this call goes without.
    `left`: its connection was seen to close.
    """

    head: Head
    body: bytes
    request_id: str = msgspec.field(default_factory=lambda: new_id("req"))
    at_ms: int = msgspec.field(default_factory=clock.now_ms)
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
        return is_retry(self.head.retry_count)

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
    ) -> UsageRow:
        """This call as a row of the usage log."""
        caller = self.caller
        if caller is None:
            raise RuntimeError("a call without a caller has no row")
        return UsageRow(
            self.at_ms,
            self.request_id,
            caller.mode_name,
            caller.key_id,
            caller.user_id,
            caller.team_id,
            self.request.model.name if self.request else None,
            provider,
            outcome,
            status,
            code,
            images,
            cost_micro_usd,
            saved_micro_usd,
            self.latency_us,
            generation_id,
            self.tags,
            caller.labels or None,
        )


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
