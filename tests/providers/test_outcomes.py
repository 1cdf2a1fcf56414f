"""The table of outcomes, whole: each row reached over a real socket, as far down as the wire goes."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.domain.outcome import RULES, Observation, Proof, UpstreamFailure, Verdict, judge
from gateway.domain.outcome import Observation as Seen
from gateway.errors import ProviderError, ProviderTimeout, ProviderUnavailable
from gateway.providers.aimlapi import AimlapiProvider
from gateway.providers.base import Order, ProviderKey
from tests.support.raw_server import (
    Handler,
    answering,
    close_after_reading,
    dripping,
    raw_server,
    reset_after_reading,
    reset_unread,
    stall,
    stalling_after,
)

GOOD = json.dumps({"images": [{"url": "https://cdn.example/1.jpg"}]}).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
PAGE = b"<!doctype html><title>Bad gateway</title>"
DATE = "Date: Wed, 21 Oct 2026 07:28:00 GMT"


def envelope(status: int, data: Any = None) -> bytes:
    error = {"name": "SomeException", "message": "So it is", "data": data}
    return json.dumps({"status": status, "statusCode": status, "message": "So it is", "error": error}).encode()


def refusing(status: int, *headers: str, data: Any = None) -> Handler:
    return answering(status, envelope(status, data), *headers)


def out_of_credits(kind: str) -> Handler:
    return refusing(403, data={"kind": kind})


CASES: list[tuple[str, Handler, Seen]] = [
    ("a good answer", answering(200, GOOD), Seen.ANSWERED),
    ("reset before reading", reset_unread, Seen.ANSWER_LOST),
    ("reset after reading", reset_after_reading, Seen.ANSWER_LOST),
    ("closed after reading", close_after_reading, Seen.ANSWER_LOST),
    ("a body cut off", answering(200, GOOD[:20], length=len(GOOD)), Seen.ANSWER_LOST),
    ("a length too long", answering(200, GOOD, length=len(GOOD) + 100), Seen.ANSWER_LOST),
    ("a length too short", answering(200, GOOD, length=len(GOOD) - 5), Seen.ANSWER_LOST),
    ("an empty promise", answering(200, b"", length=100), Seen.ANSWER_LOST),
    ("accepted, never answered", stall, Seen.TIMED_OUT),
    ("read, never answered", stalling_after(b""), Seen.TIMED_OUT),
    ("half a head", stalling_after(b"HTTP/1.1 200 OK\r\nContent-"), Seen.TIMED_OUT),
    ("a head alone", stalling_after(HEAD), Seen.TIMED_OUT),
    ("a refusal's head alone", stalling_after(HEAD.replace(b"200 OK", b"429 Slow down")), Seen.TIMED_OUT),
    ("a body that drips", dripping(HEAD), Seen.TIMED_OUT),
    ("chunks that drip", dripping(b"HTTP/1.1 200 OK\r\n\r\n"), Seen.TIMED_OUT),
    ("truncated JSON", answering(200, GOOD[:-3]), Seen.UNREADABLE),
    ("a page", answering(200, PAGE), Seen.UNREADABLE),
    ("no images", answering(200, b'{"images": []}'), Seen.UNREADABLE),
    ("another 2xx", answering(202, GOOD), Seen.UNREADABLE),
    ("a redirect", answering(307, b"", "Location: http://127.0.0.1/elsewhere"), Seen.UNREADABLE),
    *((f"an enveloped {s}", refusing(s), Seen.BAD_REQUEST) for s in (400, 413, 422)),
    *((f"an enveloped {s}", refusing(s), Seen.KEY_REFUSED) for s in (401, 403)),
    ("no credits", out_of_credits("err_insufficent_credits"), Seen.OUT_OF_CREDITS),
    ("no credits, well spelt", out_of_credits("err_insufficient_credits"), Seen.OUT_OF_CREDITS),
    ("another kind of 403", out_of_credits("err_blocked"), Seen.KEY_REFUSED),
    ("an enveloped 429", refusing(429), Seen.RATE_LIMITED),
    ("a bare 429", answering(429, PAGE), Seen.RATE_LIMITED),
    ("an enveloped 503", refusing(503), Seen.OVERLOADED),
    *((f"an enveloped {s}", refusing(s), Seen.NOT_SERVED) for s in (402, 404, 405, 408, 409, 418)),
    *((f"an enveloped {s}", refusing(s), Seen.FAILED) for s in (500, 501, 502, 504, 529)),
    *((f"a bare {s}", answering(s, PAGE), Seen.UNEXPLAINED) for s in (400, 401, 403, 404, 413, 500, 502, 503, 520)),
    ("JSON of another hand", answering(500, b'{"detail": "no"}'), Seen.UNEXPLAINED),
    ("a bare 504", answering(504, PAGE), Seen.UNEXPLAINED_TIMEOUT),
]

# observation: proof, remedy, what becomes of the key, status and charge told, x-should-retry
PROMISES: Mapping[Observation, tuple[str, str, str, int, str, bool | None]] = {
    Seen.CONNECT_FAILED: ("not_bought", "retry", "fault", 503, "no", None),
    Seen.ANSWER_LOST: ("unknown", "hold", "fault", 504, "unknown", False),
    Seen.TIMED_OUT: ("unknown", "hold", "fault", 504, "unknown", False),
    Seen.UNREADABLE: ("unknown", "hold", "fault", 502, "unknown", False),
    Seen.BAD_REQUEST: ("not_bought", "refuse", "sound", 400, "no", None),
    Seen.KEY_REFUSED: ("not_bought", "other_key", "eject", 503, "no", None),
    Seen.OUT_OF_CREDITS: ("not_bought", "other_key", "await_credits", 503, "no", None),
    Seen.RATE_LIMITED: ("not_bought", "retry", "cool", 503, "no", None),
    Seen.OVERLOADED: ("not_bought", "retry", "fault", 503, "no", None),
    Seen.NOT_SERVED: ("not_bought", "refuse", "sound", 502, "no", False),
    Seen.FAILED: ("not_bought", "refuse", "fault", 502, "no", False),
    Seen.UNEXPLAINED: ("unknown", "hold", "fault", 502, "unknown", False),
    Seen.UNEXPLAINED_TIMEOUT: ("unknown", "hold", "fault", 504, "unknown", False),
}


async def buy(port: int, *, timeout_s: float = 60) -> Verdict | None:
    """One order at 127.0.0.1:`port`; None when it was answered."""
    base_url = f"http://127.0.0.1:{port}"
    provider = AimlapiProvider("main", base_url=base_url, image_hosts=[], timeout_s=timeout_s)
    try:
        await provider.buy(Order("gen_1", "flux-pro", {"prompt": "A fox"}), ProviderKey("pk_1", "secret"))
    except UpstreamFailure as failure:
        return judge(failure.event)
    finally:
        await provider.close()
    return None


async def met(handler: Handler) -> Verdict:
    async with raw_server(handler) as port:
        verdict = await buy(port)
    assert verdict is not None
    return verdict


def keeps_its_promise(verdict: Verdict) -> bool:
    error = verdict.error
    said = (verdict.proof, verdict.remedy, verdict.key, error.status, error.charged, error.should_retry)
    return said == PROMISES[verdict.observation]


@pytest.mark.parametrize(("name", "handler", "seen"), CASES, ids=lambda value: value if isinstance(value, str) else "")
async def test_what_the_wire_shows_is_told_apart_and_judged(name: str, handler: Handler, seen: Observation) -> None:
    async with raw_server(handler) as port:
        verdict = await buy(port, timeout_s=0.4 if seen is Seen.TIMED_OUT else 60)
    if verdict is None:
        assert seen is Seen.ANSWERED
    else:
        assert verdict.observation is seen
        assert keeps_its_promise(verdict)


async def test_a_refused_connection_is_tried_again_and_names_no_address() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # bound but not listening: refused
        verdict = await buy(unheard.getsockname()[1])
    assert verdict is not None
    assert verdict.observation is Seen.CONNECT_FAILED
    assert keeps_its_promise(verdict)
    assert "127.0.0.1" not in verdict.error.message


def test_every_row_is_reached() -> None:
    assert {seen for _, _, seen in CASES} | {Seen.CONNECT_FAILED} == set(Observation) == set(RULES)
    assert RULES[Seen.ANSWERED].proof is Proof.BOUGHT


def test_what_waiting_cures_says_how_long_and_what_may_be_charged_is_left_alone() -> None:
    for observation, rule in RULES.items():
        if observation is not Seen.ANSWERED:
            assert (rule.retry_after_s is not None) == (rule.refusal is ProviderUnavailable)
            assert rule.charged == "no" or (rule.should_retry is False and rule.remedy == "hold")
            assert rule.charged == "no" or rule.refusal in {ProviderError, ProviderTimeout}
            assert rule.remedy not in {"retry", "other_key"} or rule.charged == "no"


@pytest.mark.parametrize(
    ("headers", "pause_s", "told_s"),
    [
        ([], None, 5),
        (["Retry-After: 7"], 7, 7),
        (["Retry-After: Wed, 21 Oct 2026 07:28:30 GMT", DATE], 30, 30),
        (["Retry-After: Wed, 21 Oct 2026 07:27:00 GMT", DATE], 0, 5),
        (["Retry-After: soon"], None, 5),
    ],
    ids=str,
)
@pytest.mark.parametrize("status", [429, 503])
async def test_the_provider_says_how_long_it_wants_to_be_left_alone(
    status: int, headers: list[str], pause_s: float | None, told_s: float
) -> None:
    verdict = await met(refusing(status, *headers))
    assert (verdict.pause_s, verdict.error.retry_after_s) == (pause_s, told_s)


async def test_a_request_refused_by_the_provider_is_refused_in_its_words() -> None:
    assert (await met(refusing(400))).error.message == "So it is"


async def test_words_with_braces_do_no_harm() -> None:
    body = json.dumps({"statusCode": 500, "message": "{0} {message!r} {"}).encode()
    assert (await met(answering(500, body))).error.message == "The provider failed (500): {0} {message!r} {"
