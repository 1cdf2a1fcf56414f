"""F25 and F29: what must never show, and addresses that never follow a request's Host."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.provider import FakeProvider
from tests.e2e.test_crashes import gateway_process
from tests.support.gateway import ADMIN_KEY, GatewayProcess, gateway_and_provider

CANARY = "canary-9c1e-of-a-prompt"
PROVIDER_KEY = "provider-secret"
FAULTS: list[dict[str, Any]] = [
    {},
    {"refuse_status": 500},
    {"refuse_status": 403},
    {"refuse_status": 400, "message": f"Prompt rejected: {CANARY}"},
    {"answer_fault": "html_200"},
    {"answer_fault": "reset_after_charge"},
    {"image_fault": "html"},
]
LISTS = ("/users", "/keys", "/generations", "/requests", "/audit", "/usage", "/cache")


@pytest.mark.parametrize("style", ["json", "console"])
async def test_no_prompt_and_no_key_in_logs_metrics_or_errors(
    tmp_path: Path, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM__LOG__FORMAT", style)
    monkeypatch.setenv("DARKROOM__PRIVACY__STORE_PROMPTS", "none")
    fake = FakeProvider()
    async with gateway_process(tmp_path, fake) as (process, gateway):
        key = await gateway.new_key()
        shown: list[str] = []
        for fault in FAULTS:
            fake.script.append(fault)
            answer = await gateway.generate(key, prompt=CANARY)
            if answer.status_code not in {200, 400}:  # its own words a caller may read again
                shown.append(answer.text)
        bad: list[dict[str, Any]] = [{"prompt": [CANARY]}, {"prompt": CANARY * 400}, {"n": {CANARY: CANARY}}]
        shown += [(await gateway.generate(key, **fields)).text for fields in bad]
        shown.append((await gateway.post(key, f'{{"prompt": "{CANARY}", '.encode())).text)
        shown.append((await gateway.generate(key[:-1] + "0")).text)
        shown.append((await gateway.get("/metrics")).text)
        shown += [str(await gateway.admin("GET", listing)) for listing in LISTS]
        process.stop()
        shown.append((tmp_path / "log").read_text())
    everything = "\n".join(shown)
    assert "provider_failed" in everything, "the log was read"
    for secret in (CANARY, key, key[-38:], PROVIDER_KEY, ADMIN_KEY):
        assert secret not in everything


@pytest.mark.parametrize(("kept", "found"), [("full", True), ("hash", False), ("none", False)])
async def test_the_database_keeps_of_prompts_what_it_is_told_to(tmp_path: Path, kept: str, found: bool) -> None:
    async with gateway_and_provider(tmp_path, privacy={"store_prompts": kept}) as (gateway, _):
        key = await gateway.new_key()
        bought = await gateway.generate(key, prompt=CANARY, seed=1)
        hit = await gateway.generate(key, prompt=CANARY, seed=1)
        assert bought.json()["prompt"] == hit.json()["prompt"] == CANARY
        receipt = await gateway.get(f"/v1/generations/{bought.headers['darkroom-generation-id']}", key)
        parameters = receipt.json()["parameters"]
        assert (parameters.get("prompt") == CANARY, "prompt_hash" in parameters) == (found, kept == "hash")
    files = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert any(CANARY.encode() in data for data in files) == found


async def test_an_answer_s_addresses_never_follow_the_host_of_a_request(tmp_path: Path) -> None:
    """F29: two callers by two names."""
    async with gateway_and_provider(tmp_path) as (gateway, _):
        key = await gateway.new_key()
        answers = [
            await gateway.generate(key, seed=1, headers={"host": host, "x-forwarded-host": host})
            for host in ("evil.example", "good.example", "127.0.0.1")
        ]
        assert len({answer.content for answer in answers}) == 1
        assert answers[0].json()["data"][0]["url"].startswith(f"{gateway.base_url}/images/img_")


async def test_signed_addresses_expire_and_can_t_be_altered(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path, image_urls={"expire_s": 60}) as (gateway, _):
        key = await gateway.new_key()
        url = (await gateway.generate(key, seed=1)).json()["data"][0]["url"]
        assert (await gateway.get(url)).status_code == 200
        assert (await gateway.get(url.split("?")[0])).status_code == 404
        assert (await gateway.get(url.replace("expires=1", "expires=2"))).status_code == 404
        assert (await gateway.get(url[:-1] + ("A" if url[-1] != "A" else "B"))).status_code == 404
        assert (await gateway.generate(key, seed=1)).headers["cache-status"] == "darkroom; hit"


async def test_what_is_another_s_is_not_there(tmp_path: Path) -> None:
    """F22 for receipts, usage and the cache of a scope."""
    async with gateway_and_provider(tmp_path, cache={"scope": "user"}) as (gateway, fake):
        mine, other = await asyncio.gather(gateway.new_key(), gateway.new_key())
        bought = await gateway.generate(mine, seed=1)
        path = f"/v1/generations/{bought.headers['darkroom-generation-id']}"
        assert (await gateway.get(path, mine)).json()["cost_usd"] == "0.065"
        assert (await gateway.get(path, other)).status_code == 404
        assert (await gateway.get("/v1/usage", other)).json()["user"]["requests"] == 0
        missed = await gateway.generate(other, seed=1, headers={"cache-control": "only-if-cached"})
        assert missed.status_code == 504
        assert (await gateway.generate(other, seed=1)).headers["cache-status"] == "darkroom; fwd=miss; stored"
        assert len(fake.bill) == 2


async def test_only_one_process_at_a_time_has_the_data_folder(tmp_path: Path) -> None:
    async with gateway_process(tmp_path, FakeProvider()):
        second = GatewayProcess(tmp_path / "data", "http://127.0.0.1:1", tmp_path / "second")
        with pytest.raises(RuntimeError, match="another darkroom is running"):
            await second.start()
