"""Requests: what is valid, what is the same, and that nothing which matters is left out of the identity (F21)."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog import load_catalog
from gateway.domain import fingerprint
from gateway.domain.image_request import FIELDS_THAT_DO_NOT_MATTER, ImageRequest, decode_body, parse_request
from gateway.errors import InvalidRequest
from gateway.providers.aimlapi import upstream_body
from gateway.providers.base import Order

FLUX = load_catalog()["flux-pro"]
IDENTITY = fingerprint.identity(
    mode="live", scope="global", provider_kind="aimlapi", upstream_model="flux-pro", version="1"
)


def parsed(**fields: Any) -> ImageRequest:
    body = {"model": "flux-pro", "prompt": "A lighthouse", **fields}
    return parse_request(decode_body(json.dumps(body).encode()), FLUX)


def print_of(request: ImageRequest) -> str:
    return fingerprint.fingerprint(IDENTITY, request.parameters)


def upstream_of(request: ImageRequest) -> bytes:
    return upstream_body(Order("gen_1", request.model.upstream_model, request.parameters))


sides = st.integers(8, 45).map(lambda n: n * 32)
sizes = st.one_of(
    st.sampled_from(sorted(FLUX.sizes)),
    st.fixed_dictionaries({}, optional={"width": sides, "height": sides}),
)
fields = st.fixed_dictionaries(
    {"prompt": st.one_of(st.sampled_from(["", " ", "a", "a ", "A", "é", "e\u0301"]), st.text(max_size=20))},
    optional={
        "num_images": st.sampled_from([1, 1.0, 2, 4]),
        "n": st.sampled_from([1, 2]),
        "seed": st.sampled_from([1, 1.0, 2, 2**53, 2**53 + 1, 2**63 - 1]),
        "image_size": sizes,
        "size": st.sampled_from(["1024x768", "512x512", "auto"]),
        "num_inference_steps": st.sampled_from([1, 50, 50.0]),
        "guidance_scale": st.sampled_from([1, 1.0, 3.5, 20]),
        "safety_tolerance": st.sampled_from(["1", "2", "6"]),
        "output_format": st.sampled_from(["jpeg", "png"]),
        "response_format": st.sampled_from(["url", "b64_json"]),
        "user": st.sampled_from(["", "ada"]),
        "stream": st.sampled_from([False, None]),
        "enable_safety_checker": st.booleans(),
    },
)


@given(fields, fields)
def test_fingerprints_are_equal_if_and_only_if_upstream_bodies_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = parsed(**one), parsed(**other)
    assert (print_of(first) == print_of(second)) == (upstream_of(first) == upstream_of(second))


@given(fields, fields)
def test_what_a_request_says_twice_is_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """The same, but for a field that does not matter, key order and unknown keys."""
    assert print_of(parsed(**one)) == print_of(parsed(**dict(reversed(one.items())), unknown=other.get("user")))


@pytest.mark.parametrize("name", sorted(set(FLUX.properties) - FIELDS_THAT_DO_NOT_MATTER))
def test_every_parameter_is_in_the_upstream_body_and_the_fingerprint(name: str) -> None:
    examples = {
        "prompt": "Another", "num_images": 2, "seed": 9, "image_size": "square", "num_inference_steps": 20,
        "guidance_scale": 3, "safety_tolerance": "5", "output_format": "png",
    }  # fmt: skip
    plain, changed = parsed(), parsed(**{name: examples[name]})
    assert upstream_of(plain) != upstream_of(changed)
    assert print_of(plain) != print_of(changed)


@pytest.mark.parametrize(
    "identity",
    [
        {"mode": "test"},
        {"scope": "user:user_1"},
        {"provider_kind": "sandbox"},
        {"upstream_model": "flux-dev"},
        {"version": "2"},
    ],
)
def test_mode_scope_provider_model_and_version_are_in_the_identity(identity: dict[str, str]) -> None:
    usual = {
        "mode": "live",
        "scope": "global",
        "provider_kind": "aimlapi",
        "upstream_model": "flux-pro",
        "version": "1",
    }
    assert fingerprint.identity(**usual) != fingerprint.identity(**{**usual, **identity})


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"image_size": "landscape_4_3"},
        {"image_size": {}},
        {"image_size": {"width": 1024}},
        {"image_size": {"width": 1024.0, "height": 768}},
        {"size": "1024x768"},
        {"size": "auto", "n": 1},
        {"num_images": 1, "n": 4},
        {"num_inference_steps": 50, "safety_tolerance": "2", "output_format": "jpeg"},
        {"user": "ada", "response_format": "b64_json", "quality": "hd"},
        {"stream": False},
        {"stream": None, "partial_images": 2},
    ],
)
def test_ways_to_say_one_request(fields: dict[str, Any]) -> None:
    assert print_of(parsed(**fields)) == print_of(parsed())


def test_the_prompt_is_passed_on_to_the_letter() -> None:
    prompt = "  Café\u0301 \u0000\n 😀 "
    assert json.loads(upstream_of(parsed(prompt=prompt)))["prompt"] == prompt


def test_large_seeds_keep_every_digit() -> None:
    body = b'{"model": "flux-pro", "prompt": "x", "seed": 9223372036854775807}'
    assert json.loads(upstream_of(parse_request(decode_body(body), FLUX)))["seed"] == 2**63 - 1


@pytest.mark.parametrize(
    ("fields", "path", "code"),
    [
        ({"num_images": None}, ["num_images"], "invalid_type"),
        ({"num_images": "2"}, ["num_images"], "invalid_type"),
        ({"num_images": 0}, ["num_images"], "too_small"),
        ({"prompt": "x" * 4001}, ["prompt"], "too_big"),
        ({"prompt": None}, ["prompt"], "invalid_type"),
        ({"seed": 2**63}, ["seed"], "too_big"),
        ({"seed": 2.0**60}, ["seed"], "invalid_type"),
        ({"image_size": "huge"}, ["image_size"], "invalid_enum_value"),
        ({"image_size": 5}, ["image_size"], "invalid_type"),
        ({"image_size": {"height": 1472}}, ["image_size", "height"], "too_big"),
        ({"size": "300x300"}, ["size"], "not_multiple_of"),
        ({"size": "9999999x1"}, ["size"], "invalid_string"),
        ({"guidance_scale": 0.5}, ["guidance_scale"], "too_small"),
        ({"safety_tolerance": 2}, ["safety_tolerance"], "invalid_type"),
        ({"output_format": "gif"}, ["output_format"], "invalid_enum_value"),
        ({"response_format": "png"}, ["response_format"], "invalid_enum_value"),
        ({"user": 7}, ["user"], "invalid_type"),
        ({"stream": True}, ["stream"], "invalid_literal"),
        ({"stream": "false"}, ["stream"], "invalid_literal"),
        ({"stream": 0}, ["stream"], "invalid_literal"),
    ],
)
def test_each_rule_has_its_issue(fields: dict[str, Any], path: list[str], code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(**fields)
    assert [(issue["path"], issue["code"]) for issue in refused.value.detail] == [(path, code)]
    assert ".".join(path) in refused.value.message


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(InvalidRequest, match="and 2 more") as refused:
        parsed(seed=0, num_images=9, output_format="gif")
    assert len(refused.value.detail) == 3


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_clear_refusal(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert isinstance(decode_body(body), dict)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from([*FLUX.properties, "n", "size", "user", "response_format", "stream"]), json_values)
)
def test_any_json_object_is_a_request_or_a_clear_refusal(fields: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidRequest):
        assert json.loads(upstream_of(parse_request(fields, FLUX)))["model"] == "flux-pro"
