from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.answer import AnsweredImage
from gateway.domain.outcome import Refused
from gateway.providers.aimlapi_answer import read_answer, read_refusal

ITEM = {"url": "https://cdn.example/1.jpg", "width": 1024, "height": 768, "content_type": "image/jpeg"}
IMAGE = AnsweredImage(url="https://cdn.example/1.jpg")
SHAPE_A = {"images": [ITEM], "timings": {"inference": 1.5}, "seed": 2**63 - 1, "has_nsfw_concepts": [False]}
SHAPE_B = SHAPE_A | {"created": 1767139200, "data": [ITEM], "meta": {"usage": {"usd_spent": 0.065}}}


def read(said: Any, headers: dict[str, str] | None = None) -> Any:
    return read_answer(json.dumps(said).encode(), headers or {})


def test_reads_the_native_shape() -> None:
    answer = read(SHAPE_A)
    assert answer.images == (IMAGE,)
    assert (answer.seed, answer.timings, answer.nsfw) == (2**63 - 1, {"inference": 1.5}, (False,))
    assert (answer.created, answer.cost_micro_usd, answer.inference_id) == (None, None, None)


def test_reads_the_superset() -> None:
    answer = read(SHAPE_B, {"x-inference-id": "inf-1"})
    assert answer.images == (IMAGE,)
    assert (answer.created, answer.cost_micro_usd, answer.inference_id) == (1767139200, 65_000, "inf-1")


def test_reads_data_alone_by_address_and_by_bytes() -> None:
    data = [{"url": ITEM["url"], "b64_json": None}, {"url": None, "b64_json": "AAAA"}, {"b64_json": "BBBB"}]
    assert read({"data": data}).images == (IMAGE, AnsweredImage(b64="AAAA"), AnsweredImage(b64="BBBB"))
    assert read({"images": [], "data": data[:1]}).images == (IMAGE,)


@pytest.mark.parametrize("seed", [None, True, 1.0, "5", [5]])
def test_never_invents_a_seed(seed: Any) -> None:
    assert read({"images": [ITEM], "seed": seed}).seed is None


def test_a_seed_keeps_every_digit() -> None:
    assert read({"images": [ITEM], "seed": 10**40 + 1}).seed == 10**40 + 1


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"null",
            b"[]",
            b'"text"',
            b"{}",
            b"<!doctype html>",
            b"\xff\xfe",
            b'{"a":"\xff"}',
            b"[" * 100_000,
        ),
        *(
            b'{"images": []}',
            b'{"images": {}}',
            b'{"images": "x"}',
            b'{"images": [null]}',
            b'{"images": [{}]}',
        ),
        *(
            b'{"images": [{"url": ""}]}',
            b'{"images": [{"url": 5}]}',
            b'{"data": [{"url": null, "b64_json": ""}]}',
        ),
        json.dumps(SHAPE_B).encode()[:-20],
        b'{"images": [{"url": "https://cdn.example/1.jpg"}, {}]}',
        b'{"error": {"message": "no"}}',
        b'{"images": [{"url": "\\ud800"}], "seed": 1e999}',
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
def test_nonsense_is_not_an_answer(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^(it|an image in it) "):
        read_answer(body, {})


@given(st.binary() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_any_bytes_are_an_answer_or_a_value_error(body: bytes | str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_answer(body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass"), {})


def usage(**said: Any) -> dict[str, Any]:
    return {"images": [ITEM], "meta": {"usage": said}}


HEADERS = {"x-aimlapi-usd-spent": "0.07", "x-aimlapi-credits-used": "160000"}


@pytest.mark.parametrize(
    ("said", "headers", "micro_usd"),
    [
        (usage(usd_spent=0.065, credits_used=1), HEADERS, 65_000),
        (usage(usd_spent="0.065"), {}, 65_000),
        (usage(usd_spent=0), {}, 0),
        (usage(usd_spent=0.1 + 0.2), {}, 300_001),
        (usage(usd_spent=0.0000001), {}, 1),
        (usage(credits_used=130_000), HEADERS, 65_000),
        (usage(credits_used=130_001), {}, 65_001),
        (usage(tokens_used=5), HEADERS, 70_000),
        (usage(), {"x-aimlapi-credits-used": "160000"}, 80_000),
        ({"images": [ITEM], "meta": None}, HEADERS, 70_000),
        ({"images": [ITEM], "meta": {"usage": []}}, {}, None),
    ],
)
def test_the_cost_is_the_first_that_is_said(said: Any, headers: dict[str, str], micro_usd: int | None) -> None:
    assert read(said, headers).cost_micro_usd == micro_usd


@pytest.mark.parametrize("nonsense", [True, False, -1, -0.01, "NaN", "Infinity", "much", "", None, [1], {}, 1e12])
def test_a_nonsensical_cost_counts_as_not_said(nonsense: Any) -> None:
    assert read(usage(usd_spent=nonsense, credits_used=130_000)).cost_micro_usd == 65_000
    assert read(usage(usd_spent=nonsense)).cost_micro_usd is None
    assert read({"images": [ITEM]}, {"x-aimlapi-usd-spent": str(nonsense)}).cost_micro_usd is None


@given(st.text() | st.from_regex(r"\d{1,9}(\.\d{1,9})?(e[+-]?\d{1,20})?", fullmatch=True))
def test_whatever_a_header_says_the_cost_is_a_bounded_integer_or_unknown(said: str) -> None:
    cost = read({"images": [ITEM]}, {"x-aimlapi-usd-spent": said}).cost_micro_usd
    assert cost is None or 0 <= cost <= 10_000_000_000


def envelope(**changes: Any) -> bytes:
    said = {"statusCode": 403, "message": "You've run out of credits.", "path": "/v1/images/generations"}
    return json.dumps(said | changes).encode()


def test_reads_the_providers_envelope() -> None:
    refused = read_refusal(403, {}, envelope())
    assert refused == Refused(403, "You've run out of credits.", enveloped=True)


def test_appends_the_issues_readably() -> None:
    issues = [{"path": ["image_size", "width"], "message": "Too big"}, {"path": [], "message": "Odd"}, 5, {}]
    body = envelope(message="Invalid payload provided", error={"data": issues})
    assert read_refusal(400, {}, body).message == "Invalid payload provided: image_size.width: Too big; Odd"


@pytest.mark.parametrize(
    ("body", "enveloped"),
    [
        (b'{"status": 500, "message": "m"}', True),
        (b'{"error": {"message": "m"}}', True),
        (b'{"message": "Endpoint request timed out"}', False),
        (b'{"statusCode": 500}', False),
        (b'{"error": "m"}', False),
        (b'{"statusCode": true, "message": "m"}', False),
        (b"<html>502 Bad Gateway</html>", False),
        (b"[1]", False),
        (b"", False),
        (b"\xff\xfe\x00", False),
    ],
)
def test_only_the_providers_own_error_body_is_enveloped(body: bytes, enveloped: bool) -> None:
    refused = read_refusal(500, {}, body)
    assert refused.enveloped is enveloped
    assert refused.message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "Sun, 22 Nov 2026 20:00:30 GMT", "date": "Sun, 22 Nov 2026 20:00:00 GMT"}, 30.0),
        ({"retry-after": "Sun, 22 Nov 2026 19:00:00 GMT", "date": "Sun, 22 Nov 2026 20:00:00 GMT"}, 0.0),
        ({"retry-after": "Sun, 22 Nov 2026 20:00:30 GMT"}, None),
    ],
)
def test_retry_after_comes_as_seconds(headers: dict[str, str], seconds: float | None) -> None:
    assert read_refusal(429, headers, envelope()).retry_after_s == seconds


@given(st.binary())
def test_any_body_makes_a_refusal(body: bytes) -> None:
    assert read_refusal(502, {}, body).message


YEARS_TOO_LATE = "Sun, 06 Nov 19000000000000000000000094 08:49:37 GMT"


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"retry-after": YEARS_TOO_LATE, "date": YEARS_TOO_LATE}, {}),
        ({"retry-after": "9" * 400}, {}),
        ({}, {"message": "No", "data": {"kind": {"": ""}}}),
    ],
)
def test_what_fuzzing_found_is_read_as_a_refusal(headers: dict[str, str], error: dict[str, Any]) -> None:
    refused = read_refusal(503, headers, json.dumps({"error": error}).encode())
    assert refused.retry_after_s in {None, 86_400.0}
