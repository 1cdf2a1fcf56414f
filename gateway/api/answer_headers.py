"""The headers of an answer: what the cache did (RFC 9211), what it cost, what is left (the RateLimit draft)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.domain.pricing import usd
from gateway.resources import Call, Delivery, RateState

Header = tuple[bytes, bytes]

_PRINTABLE = re.compile(r"[\x21-\x7e]{1,256}")


def call_headers(call: Call) -> list[Header]:
    """Of every answer to a call, refusals too: its ids, and what is left of each limit of requests."""
    headers = [(b"x-request-id", call.request_id.encode())]
    if call.head.client_request_id:
        headers.append((b"x-client-request-id", call.head.client_request_id.encode()))
    if call.caller is not None:
        headers.append((b"darkroom-mode", call.caller.mode_name.encode()))
        if call.rates:
            headers += rate_headers(call.rates, call.caller.request_policy)
    return headers


def rate_headers(rates: Sequence[RateState], policy: str) -> list[Header]:
    """`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10)."""
    left = [
        f'"{limit.name}";r={left}' if reset_s is None else f'"{limit.name}";r={left};t={reset_s}'
        for limit, left, reset_s in rates
    ]
    return [(b"ratelimit", ", ".join(left).encode()), (b"ratelimit-policy", policy.encode())]


def delivery_headers(call: Call, delivery: Delivery) -> list[Header]:
    """Of a 200."""
    if delivery.held is None:
        return [*_constant(delivery), *_cache_status(call, delivery)]
    return [*constant_headers(delivery), (b"age", str(delivery.age_s).encode())]


def constant_headers(hit: Delivery) -> list[Header]:
    """Of every hit of an entry."""
    return [*_constant(hit), (b"cache-status", b"darkroom; hit")]


def _constant(delivery: Delivery) -> list[Header]:
    answer = delivery.answer
    headers = [
        (b"content-type", b"application/json"),
        (b"darkroom-cost-usd", usd(delivery.cost_micro_usd).encode()),
        (b"darkroom-saved-usd", usd(delivery.saved_micro_usd).encode()),
        (b"darkroom-generation-id", answer.generation_id.encode()),
        (b"darkroom-provider", answer.provider.encode()),
    ]
    if answer.inference_id and _PRINTABLE.fullmatch(answer.inference_id):
        headers.append((b"x-inference-id", answer.inference_id.encode()))
    return headers


def _cache_status(call: Call, delivery: Delivery) -> list[Header]:
    if delivery.outcome == "hit":
        said = "darkroom; hit"
    elif delivery.outcome == "joined":
        said = "darkroom; fwd=miss; collapsed"
    elif delivery.outcome == "repeated":
        said = "darkroom; fwd=miss; collapsed; detail=repeat"
    elif call.plan is not None and call.plan.bypass:
        said = f"darkroom; fwd=bypass; detail={call.plan.bypass}"
    else:
        why = "miss" if call.plan is None or call.plan.readable else "request"
        said = f"darkroom; fwd={why}" + ("; stored" if delivery.stored else "")
    return [(b"cache-status", said.encode())]
