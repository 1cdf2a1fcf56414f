"""schemathesis on the OpenAPI document: no 5xx, no undocumented status, answers as described; and the document."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.demo.provider import FakeProvider
from tests.support.gateway import ADMIN_KEY, Gateway, gateway_and_provider

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A gateway in a loop and thread of its own: schemathesis calls from outside. Its address, and a live key."""
    ready: dict[str, Any] = {}
    started = threading.Event()

    async def serve() -> None:
        ready["stop"] = asyncio.Event()
        ready["loop"] = asyncio.get_running_loop()
        async with gateway_and_provider(tmp_path_factory.mktemp("openapi"), FakeProvider()) as (gateway, _):
            ready["key"] = await gateway.new_key()
            ready["base_url"] = gateway.base_url
            started.set()
            await ready["stop"].wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(60)
    yield ready["base_url"], ready["key"]
    ready["loop"].call_soon_threadsafe(ready["stop"].set)
    thread.join()


def test_every_operation_answers_as_documented(served: tuple[str, str]) -> None:
    """Each operation with what it takes and what it does not. (The plugin's own marker does not know this pytest.)"""
    base_url, key = served
    document = schemathesis.openapi.from_url(f"{base_url}/openapi.json")
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    seen: Counter[int] = Counter()
    for found in document.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        token = ADMIN_KEY if operation.path.startswith("/admin/") else key
        called = [try_operation(operation.as_strategy(generation_mode=mode), token) for mode in modes]
        assert called[0], f"{operation.label} was never called"
        for statuses in called:
            seen.update(statuses)
    assert {200, 201, 400, 404} <= seen.keys()


def try_operation(cases: Any, token: str) -> list[int]:
    """The statuses of its answers."""
    statuses = []

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=cases)
    def attempt(case: Any) -> None:
        response = case.call(headers={"Authorization": f"Bearer {token}"})
        case.validate_response(response, checks=CHECKS)
        statuses.append(response.status_code)

    with suppress(Unsatisfiable):  # nothing can be wrong with an operation that takes nothing
        attempt()
    return statuses


async def test_the_document_describes_the_request_with_the_model_s_own_parameters(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, _):
        described = (await gateway.get("/openapi.json")).json()
        assert described["paths"]["/v1/images/generations"]["post"]["responses"].keys() >= {"200", "400", "429", "504"}
        request = described["components"]["schemas"]["ImageRequest"]
        assert request["properties"]["seed"]["maximum"] == 2**63 - 1
        assert {"n", "size", "response_format", "user"} <= request["properties"].keys()


async def test_the_docs_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, _):
        page = await gateway.get("/docs")
        assert page.status_code == 200
        assert "/v1/images/generations" in page.text
        assert "src=" not in page.text
        assert "https://" not in page.text
        assert page.headers["content-security-policy"].startswith("default-src 'none'")


async def test_every_other_address_and_method_is_refused_in_the_envelope(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, _):
        await refused(gateway, "GET", "/nothing", 404, "not_found")
        await refused(gateway, "GET", "/v1/images/generations", 405, "method_not_allowed")
        await refused(gateway, "GET", "/admin/v1/users", 401, "invalid_api_key")


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("POST", "/images/generations", "/v1/images/generations"),
        ("POST", "/v1/v1/images/generations", "/v1/images/generations"),
        ("POST", "/images/quote", "/v1/images/quote"),
        ("GET", "/models", "/v1/models"),
        ("GET", "/models/flux-pro", "/v1/models/flux-pro"),
        ("GET", "/usage", "/v1/usage"),
    ],
)
async def test_a_base_url_without_the_version_or_with_two_is_told_where_it_is(
    tmp_path: Path, method: str, path: str, meant: str
) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        answer = await gateway.http.request(method, gateway.base_url + path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        assert f"it is at {meant}." in answer.json()["message"]
        assert fake.calls == 0


async def test_a_browser_at_the_bare_address_is_led_to_the_console_where_there_is_one(tmp_path: Path) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for enabled, expected in ((True, (303, "/console")), (False, (404, None))):
        async with gateway_and_provider(tmp_path / str(enabled), console={"enabled": enabled}) as (gateway, _):
            led = await gateway.http.get(f"{gateway.base_url}/", headers=browser)
            assert (led.status_code, led.headers.get("location")) == expected
            plain = await gateway.http.get(f"{gateway.base_url}/", headers={"Accept": "*/*"})
            assert plain.status_code == 404
            assert "/docs" in plain.json()["message"]


async def refused(gateway: Gateway, method: str, path: str, status: int, code: str) -> None:
    answer: httpx.Response = await gateway.http.request(method, gateway.base_url + path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["requestId"] == answer.headers["x-request-id"]
