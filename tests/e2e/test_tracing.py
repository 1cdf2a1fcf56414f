"""Traces of calls, as a collector gets them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.demo.provider import FakeProvider
from gateway.telemetry.tracing import CALL, FETCH, ORDER, PUBLICATION, RESERVATION
from tests.support.gateway import ADMIN_KEY, gateway_and_provider
from tests.support.otlp import Collector, collecting, told

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"
NOT_SAMPLED = f"00-{TRACE}-b7ad6b7169203331-00"
PROMPT = "canary-of-a-prompt"


def traced(collector: Collector, **more: Any) -> dict[str, Any]:
    return {"tracing": {"endpoint": collector.endpoint, **more}}


async def test_a_purchase_is_one_trace_from_the_caller_to_the_provider(tmp_path: Path) -> None:
    async with collecting() as collector:
        async with gateway_and_provider(tmp_path, **traced(collector)) as (gateway, fake):
            key = await gateway.new_key()
            answer = await gateway.generate(key, seed=1, headers={"traceparent": CALLER})
            assert answer.status_code == 200
        spans = {span.name: span for span in collector.spans}
        assert len(spans) == len(collector.spans) == 5
        assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
        assert spans[CALL].parent_span_id.hex() == "b7ad6b7169203331"
        assert spans[CALL].kind == Span.SPAN_KIND_SERVER
        for name in (RESERVATION, ORDER, PUBLICATION):
            assert spans[name].parent_span_id == spans[CALL].span_id
        assert spans[FETCH].parent_span_id == spans[PUBLICATION].span_id
        assert fake.traceparents == [f"00-{TRACE}-{spans[ORDER].span_id.hex()}-01"]
        assert told(spans[CALL]) == {
            "darkroom.request_id": answer.headers["x-request-id"],
            "darkroom.generation_id": answer.headers["darkroom-generation-id"],
            "darkroom.model": "flux-pro",
            "darkroom.mode": "live",
            "darkroom.outcome": "bought",
            "darkroom.status": 200,
        }


@pytest.mark.parametrize("thin_path", [True, False])
async def test_hits_and_joins_are_calls_that_buy_nothing(tmp_path: Path, thin_path: bool) -> None:
    fake = FakeProvider()
    fake.gate = asyncio.Event()
    async with collecting() as collector:
        async with gateway_and_provider(tmp_path, fake, thin_path=thin_path, **traced(collector)) as (gateway, _):
            key = await gateway.new_key()
            equal = [asyncio.create_task(gateway.generate(key, seed=1)) for _ in range(2)]
            await fake.wait_for_calls(1)
            fake.gate.set()
            assert [answer.status_code for answer in await asyncio.gather(*equal)] == [200, 200]
            assert (await gateway.generate(key, seed=1)).headers["cache-status"] == "darkroom; hit"
        outcomes = sorted(str(told(span)["darkroom.outcome"]) for span in collector.named(CALL))
        assert outcomes in (["bought", "hit", "joined"], ["bought", "hit", "hit"])
        assert len(collector.named(ORDER)) == 1


async def test_a_failure_is_marked_and_no_word_of_a_prompt_or_key_is_told(tmp_path: Path) -> None:
    async with collecting() as collector:
        async with gateway_and_provider(tmp_path, **traced(collector)) as (gateway, fake):
            key = await gateway.new_key(limits=[{"metric": "images", "window": "day", "amount": "2"}])
            fake.script += [
                {"refuse_status": 400, "message": f"Prompt rejected: {PROMPT}"},
                {"answer_fault": "reset_after_charge"},
                {"image_fault": "html"},
            ]
            answers = [await gateway.generate(key, prompt=PROMPT) for _ in range(4)]
            assert [answer.status_code for answer in answers] == [400, 504, 502, 429]
        failed = [span for span in collector.spans if span.status.code == Status.STATUS_CODE_ERROR]
        assert {(span.name, told(span)["error.type"]) for span in failed} >= {
            (ORDER, "UpstreamFailure"), (PUBLICATION, "provider_error"), (RESERVATION, "quota_exceeded"),
        }  # fmt: skip
        codes = [told(span).get("darkroom.code") for span in collector.named(CALL)]
        assert codes == [answer.json()["error"]["code"] for answer in answers]
        for secret in (PROMPT, key, "provider-secret", ADMIN_KEY):
            assert secret.encode() not in collector.raw


@pytest.mark.parametrize(
    ("header", "ratio", "spans"), [(NOT_SAMPLED, 1, 0), (None, 0, 0), (CALLER, 0, 5), (None, 1, 5)]
)
async def test_the_caller_decides_what_is_traced_and_else_the_ratio(
    tmp_path: Path, header: str | None, ratio: float, spans: int
) -> None:
    async with collecting() as collector:
        async with gateway_and_provider(tmp_path, **traced(collector, sample_ratio=ratio)) as (gateway, _):
            headers = {} if header is None else {"traceparent": header}
            assert (await gateway.generate(await gateway.new_key(), headers=headers)).status_code == 200
        assert len(collector.spans) == spans


@pytest.mark.filterwarnings("ignore:unclosed")
async def test_with_the_collector_gone_calls_go_on(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path, tracing={"endpoint": "http://127.0.0.1:1"}) as (gateway, _):
        assert (await gateway.generate(await gateway.new_key(), seed=1)).status_code == 200


def python(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    return done.stdout


def test_off_nothing_of_it_is_imported(tmp_path: Path) -> None:
    """But for what redis-py imports of it, the SDK's metrics, where it is installed."""
    heavy = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.proto")
    code = f"import sys, gateway.app, gateway.cli; print([n for n in sys.modules if n.startswith({heavy})])"
    assert python(code, tmp_path).strip() == "[]"


def test_without_the_extra_it_is_told_what_to_install(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["opentelemetry.sdk"] = None
from gateway.config_operations import TracingSettings
from gateway.errors import ConfigurationError
from gateway.resources.tracing import open_tracing
try:
    open_tracing(TracingSettings(endpoint="http://collector:4318"))
except ConfigurationError as exc:
    print(exc.message)
"""
    assert "pip install 'darkroom-gateway[otel]'" in python(code, tmp_path)
