"""Coverage-guided fuzzing of what reads a caller's body: `make fuzz`. An input is a body."""

from __future__ import annotations

import json
import sys

import atheris

with atheris.instrument_imports(include=["gateway.domain", "gateway.errors", "gateway.api.error_response"]):
    from gateway.api.error_response import error_body, error_headers
    from gateway.catalog import load_catalog
    from gateway.domain import fingerprint
    from gateway.domain.image_request import ImageRequest, decode_body, model_of, parse_request
    from gateway.errors import DarkroomError

import msgspec

from tests.fuzz.json_mutation import mutate_json

MODELS = load_catalog()
IDENTITY = fingerprint.identity(mode="live", scope="global", provider_kind="x", upstream_model="m", version="1")


def fuzz_one(body: bytes) -> None:
    try:
        read = decode_body(body)
        request = parse_request(read, model_of(read, MODELS))
    except DarkroomError as refusal:
        error_headers(refusal)
        json.loads(error_body(refusal, request_id="req_1", path="/"))
    else:
        check(request)


def check(request: ImageRequest) -> None:
    sent = msgspec.json.decode(msgspec.json.encode(request.parameters))
    assert sent == request.parameters, "what is sent is what was understood"
    again = parse_request({"model": request.model.name, **sent}, request.model)
    assert again.parameters == request.parameters, "the canonical form is its own canonical form"
    of_first, of_second = (fingerprint.fingerprint(IDENTITY, r.parameters) for r in (request, again))
    assert of_first == of_second
    assert request.cost(request.model.price) > 0
    assert 1 <= request.images <= 4
    assert len(request.prompt) <= 4000


if __name__ == "__main__":
    atheris.Setup(sys.argv, fuzz_one, custom_mutator=mutate_json)
    atheris.Fuzz()
