from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.demo.provider import FakeProvider, running
from gateway.domain.outcome import Lost, NotSent, Refused, Unreadable, UpstreamEvent, UpstreamFailure
from gateway.domain.picture import ImageUnusable, inspect_picture
from gateway.providers.aimlapi import AimlapiProvider, upstream_body
from gateway.providers.base import Order, ProviderKey

KEY = ProviderKey("pk_1", "provider-secret")


def order(**changes: Any) -> Order:
    parameters = {
        "prompt": "A fox",
        "num_images": 1,
        "seed": 2**63 - 1,
        "image_size": {"width": 512, "height": 256},
        "num_inference_steps": 50,
        "safety_tolerance": "2",
        "output_format": "jpeg",
    }
    return Order("gen_1", "flux-pro", parameters | changes)


@asynccontextmanager
async def provider(fake: FakeProvider, *, timeout_s: float = 30) -> AsyncIterator[AimlapiProvider]:
    async with running(fake) as base_url:
        opened = AimlapiProvider(
            "main", base_url=base_url, image_hosts=[base_url.removeprefix("http://")], timeout_s=timeout_s
        )
        try:
            yield opened
        finally:
            await opened.close()


async def event(fake: FakeProvider, *, timeout_s: float = 30, key: ProviderKey = KEY) -> UpstreamEvent:
    async with provider(fake, timeout_s=timeout_s) as bought_from:
        with pytest.raises(UpstreamFailure) as failed:
            await bought_from.buy(order(), key)
    return failed.value.event


@pytest.mark.parametrize("shape", ["A", "B", "C_url"])
async def test_buys_and_fetches_in_every_shape(shape: str) -> None:
    fake = FakeProvider(shape=shape)
    async with provider(fake) as bought_from:
        answer = await bought_from.buy(order(num_images=2), KEY)
        assert [image.b64 for image in answer.images] == [None, None]
        data = await bought_from.fetch(answer.images[0].url or "")
    assert answer.cost_micro_usd == 130_000
    assert answer.seed == (None if shape == "C_url" else 2**63 - 1)
    assert answer.inference_id
    facts = inspect_picture(data)
    assert (facts.extension, facts.width, facts.height) == ("jpg", 512, 256)
    assert "authorization" not in fake.fetches[0]


async def test_takes_pictures_in_base64() -> None:
    async with provider(FakeProvider(shape="C_b64")) as bought_from:
        answer = await bought_from.buy(order(), KEY)
    assert answer.images[0].url is None
    assert answer.images[0].b64


async def test_the_call_can_be_found_in_the_providers_books() -> None:
    fake = FakeProvider()
    async with provider(fake) as bought_from:
        await bought_from.buy(order(), KEY)
    assert [(row["client_request_id"], row["key"]) for row in fake.bill] == [("gen_1", "provider-secret")]
    assert fake.bill[0]["body"] == {"model": "flux-pro", **order().parameters}


def test_equal_orders_are_sent_as_equal_bytes() -> None:
    parameters = {"prompt": "A fox ", "seed": 2**63 - 1, "image_size": {"width": 512, "height": 256}}
    bodies = {
        upstream_body(dataclasses.replace(order(), parameters=dict(pairs)))
        for pairs in itertools.permutations(parameters.items())
    }
    assert len(bodies) == 1
    assert json.loads(bodies.pop()) == {"model": "flux-pro", **parameters}


async def test_a_refusal_is_read_from_the_envelope() -> None:
    fake = FakeProvider(refuse_status=429, message="Slow down", retry_after="3")
    assert await event(fake) == Refused(429, "Slow down", enveloped=True, retry_after_s=3)
    assert fake.bill == []


async def test_a_wrong_key_is_refused_uncharged() -> None:
    said = await event(FakeProvider(), key=ProviderKey("pk_2", "wrong"))
    assert said == Refused(401, "Invalid API key", enveloped=True)


@pytest.mark.parametrize("fault", ["truncated_json", "html_200", "empty_images"])
async def test_a_200_that_is_no_answer_is_unreadable(fault: str) -> None:
    said = await event(FakeProvider(answer_fault=fault))
    assert isinstance(said, Unreadable)
    assert said.status == 200


async def test_a_proxys_502_is_not_the_providers_word() -> None:
    said = await event(FakeProvider(answer_fault="html_502"))
    assert isinstance(said, Refused)
    assert (said.status, said.enveloped) == (502, False)


async def test_a_reset_after_the_charge_is_lost() -> None:
    fake = FakeProvider(answer_fault="reset_after_charge")
    said = await event(fake)
    assert isinstance(said, Lost)
    assert not said.timed_out
    assert (fake.calls, len(fake.bill)) == (1, 1)


@pytest.mark.parametrize("fault", ["never", "drip"])
async def test_no_whole_answer_in_time_is_lost_by_time_out(fault: str) -> None:
    said = await event(FakeProvider(answer_fault=fault), timeout_s=0.3)
    assert isinstance(said, Lost)
    assert said.timed_out


async def test_a_provider_that_is_down_was_not_sent_anything() -> None:
    async with running(FakeProvider()) as base_url:
        pass
    unreachable = AimlapiProvider("main", base_url=base_url, image_hosts=[], timeout_s=5)
    with pytest.raises(UpstreamFailure) as failed:
        await unreachable.buy(order(), KEY)
    await unreachable.close()
    assert isinstance(failed.value.event, NotSent)


@pytest.mark.parametrize("status", [201, 302])
async def test_any_other_status_is_unreadable(status: int) -> None:
    said = await event(FakeProvider(refuse_status=status))
    assert isinstance(said, Unreadable)
    assert said.status == status


@pytest.mark.parametrize(("fault", "permanent"), [("missing", False), ("redirect_inward", True), ("huge", True)])
async def test_a_bad_address_is_unusable(fault: str, permanent: bool) -> None:
    async with provider(FakeProvider(image_fault=fault)) as bought_from:
        answer = await bought_from.buy(order(), KEY)
        with pytest.raises(ImageUnusable) as refused:
            await bought_from.fetch(answer.images[0].url or "")
    assert refused.value.permanent is permanent


async def test_many_calls_wait_at_the_provider_at_once() -> None:
    fake = FakeProvider()
    fake.gate = asyncio.Event()
    async with provider(fake) as bought_from, asyncio.TaskGroup() as calls:
        for _ in range(150):
            calls.create_task(bought_from.buy(order(), KEY))
        await fake.wait_for_calls(150)
        fake.gate.set()
    assert len(fake.bill) == 150
