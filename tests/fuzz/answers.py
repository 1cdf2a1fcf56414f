"""Coverage-guided fuzzing of what reads the provider's answers: `make fuzz`.

An input is a status line's number, headers a line each, an empty line, and the body.
"""

from __future__ import annotations

import math
import sys

import atheris

with atheris.instrument_imports(include=["gateway.domain", "gateway.errors", "gateway.providers.aimlapi_answer"]):
    from gateway.api.error_response import error_body, error_headers
    from gateway.domain.answer import ProviderAnswer
    from gateway.domain.outcome import judge
    from gateway.providers.aimlapi_answer import read_answer, read_refusal

import msgspec

from tests.fuzz.json_mutation import mutate_json

STATUSES = (400, 401, 403, 404, 413, 422, 429, 500, 502, 503, 504)
_LARGEST_MICRO_USD = 10_000 * 10**6


def fuzz_one(data: bytes) -> None:
    head, _, body = data.partition(b"\n\n")
    status, *lines = head.decode("latin-1").split("\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    _read_answer(body, headers)
    known = int(status) if status.isascii() and status.isdigit() and len(status) == 3 else len(data)
    _read_refusal(known if 400 <= known < 600 else STATUSES[known % len(STATUSES)], headers, body)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """The head's bytes or the body's JSON."""
    head, gap, body = data.partition(b"\n\n")
    if not gap or seed % 4 == 0:
        return bytes(atheris.Mutate(data, max_size))
    return (head + gap + mutate_json(body, max_size, seed))[:max_size]


def _read_answer(body: bytes, headers: dict[str, str]) -> None:
    try:
        answer = read_answer(body, headers)
    except ValueError as exc:
        reason = str(exc)
        assert len(reason) < 1000, "it is shown to the caller"
        return
    assert answer.images
    assert answer.cost_micro_usd is None or 0 <= answer.cost_micro_usd <= _LARGEST_MICRO_USD
    kept = msgspec.json.encode(answer)
    assert msgspec.json.decode(kept, type=ProviderAnswer) == answer, "what SQL keeps is what was said"


def _read_refusal(status: int, headers: dict[str, str], body: bytes) -> None:
    refused = read_refusal(status, headers, body)
    assert refused.retry_after_s is None or (math.isfinite(refused.retry_after_s) and refused.retry_after_s >= 0)
    verdict = judge(refused)
    error_headers(verdict.error)
    error_body(verdict.error, request_id="req_1", path="/")


if __name__ == "__main__":
    atheris.Setup(sys.argv, fuzz_one, custom_mutator=mutate)
    atheris.Fuzz()
