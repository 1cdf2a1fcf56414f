"""What is used of limits, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.gateway import Gateway, gateway_and_provider

DEFAULT = {"metric": "requests", "window": "minute", "amount": "600"}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_and_provider(tmp_path, limits={"user": [DEFAULT]}) as (running, _):
        yield running


async def test_a_budget_is_seen_filling_up(gateway: Gateway):
    budget = {"metric": "cost_usd", "window": "month", "amount": "0.13", "alert_at": [80, 100]}
    user_id = await gateway.new_user(name="Ada", limits=[budget])
    key = await gateway.new_key(user_id=user_id)
    assert (await gateway.generate(key)).is_success
    [line] = (await gateway.admin("GET", "/limits", near=50))["data"]
    resets_at = line.pop("resets_at")
    assert line == {
        **budget, "scope": "user", "scope_id": user_id, "name": "Ada", "used": "0.065", "reserved": "0",
        "left": "0.065", "percent": 50.0,
    }  # fmt: skip
    assert resets_at.endswith("-01T00:00:00Z")
    assert (await gateway.admin("GET", "/limits", near=51))["data"] == []
    of_user = await gateway.admin("GET", f"/users/{user_id}/limits/usage")
    assert [(each["metric"], each["inherited"], each["used"]) for each in of_user] == [
        ("cost_usd", False, "0.065"),
        ("requests", True, None),
    ]
    assert await gateway.admin("GET", f"/users/{user_id}/limits") == [budget]
    assert (await gateway.try_admin("GET", "/users/user_none/limits/usage")).status_code == 404
