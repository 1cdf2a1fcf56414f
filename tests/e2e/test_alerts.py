"""A budget that fills up is told to a webhook, from the purchase to the far end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import Gateway, gateway_and_provider
from tests.support.waiting import until
from tests.support.webhook_receiver import Receiver, receiving


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_and_provider(tmp_path) as (running, _):
        yield running


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


async def hook(gateway: Gateway, receiver: Receiver) -> dict[str, Any]:
    made: dict[str, Any] = await gateway.admin("POST", "/webhooks", {"name": "pager", "url": receiver.url})
    receiver.secrets.append(made.pop("secret"))
    return made


async def test_a_budget_that_fills_up_is_told_and_logged(gateway: Gateway, receiver: Receiver):
    made = await hook(gateway, receiver)
    budget = {"metric": "cost_usd", "window": "month", "amount": "0.13", "alert_at": [50, 100]}
    user_id = await gateway.new_user(name="Ada", limits=[budget])
    key = await gateway.new_key(user_id=user_id)
    assert (await gateway.generate(key)).is_success
    await gateway.resources.alerts.check()

    async def told() -> list[Any]:
        page: list[Any] = (await gateway.admin("GET", "/deliveries", status="delivered"))["data"]
        return page

    [delivery] = await until(told)
    [alert] = (await gateway.admin("GET", "/alerts", scope_id=user_id))["data"]
    [message] = receiver.got
    assert message.signed_by == receiver.secrets[0]
    assert (message.id, message.body["data"]["alert_id"]) == (delivery["id"], alert["id"])
    assert (alert["name"], alert["limit"], alert["percent"]) == ("Ada", "user-cost_usd-month", 50)
    assert (alert["used"], alert["amount"]) == ("0.065", "0.13")
    assert alert["period"]["to"].endswith("-01T00:00:00Z")
    assert (delivery["webhook_id"], delivery["attempts"], delivery["last_status"]) == (made["id"], 1, 204)
    again = await gateway.admin("POST", f"/deliveries/{delivery['id']}/retry")
    assert (again["status"], len(receiver.got)) == ("delivered", 2)
    assert "darkroom_webhook_deliveries_total" in (await gateway.get("/metrics")).text


async def test_a_webhook_is_administered_and_its_secret_shown_once(gateway: Gateway, receiver: Receiver):
    made = await hook(gateway, receiver)
    path = f"/webhooks/{made['id']}"
    assert await gateway.admin("GET", path) == made
    assert (await gateway.admin("GET", "/webhooks"))["data"] == [made]
    assert (await gateway.admin("PATCH", path, {"name": "desk", "disabled": True}))["disabled"] is True
    assert (await gateway.admin("POST", f"{path}/test"))["last_error"] == "The webhook is disabled."
    await gateway.admin("PATCH", path, {"disabled": False})
    receiver.secrets.append((await gateway.admin("POST", f"{path}/rotate"))["secret"])
    assert (await gateway.admin("POST", f"{path}/test"))["status"] == "delivered"
    assert receiver.got[-1].signed_by == receiver.secrets[1]
    actions = [event["action"] for event in (await gateway.admin("GET", "/audit", object_id=made["id"]))["data"]]
    assert actions == ["webhook.rotate", "webhook.update", "webhook.update", "webhook.create"]
    await gateway.admin("DELETE", path)
    for method, address in (("GET", path), ("POST", f"{path}/test"), ("POST", "/deliveries/dlv_none/retry")):
        assert (await gateway.try_admin(method, address)).status_code == 404
    refused = await gateway.try_admin("POST", "/webhooks", {"name": "x", "url": "https://ada:secret@example.com/"})
    assert refused.status_code == 400
