"""`darkroom demo traffic`: sample calls with test keys, and the same people the second time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.demo_plan import LABEL, PEOPLE
from tests.support.gateway import gateway_and_provider
from tests.support.shell import Shell


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    async with gateway_and_provider(tmp_path / "data") as (gateway, _):
        yield Shell(gateway, tmp_path)


async def of_the_demo(shell: Shell, kind: str) -> list[dict[str, Any]]:
    page = await shell.gateway.admin("GET", f"/{kind}", limit=1000)
    return [each for each in page["data"] if each["labels"] == LABEL]


async def test_sample_calls_show_something_of_everything_and_cost_nothing_live(shell: Shell) -> None:
    said = await shell.run("demo", "traffic", "--calls", "150", "--seconds", "3")
    for word in ("hits", "bought", "quota_exceeded", "play money", "/console/test/overview"):
        assert word in said.lower()
    test, live = await shell.gateway.usage(mode="test"), await shell.gateway.usage(mode="live")
    assert (test["requests"], live["requests"]) == (150, 0)
    assert test["hits"] > 20
    assert test["errors"] > 5
    assert test["generations"] > 20
    assert float(test["saved_usd"]) > 1
    tags = (await shell.gateway.admin("GET", "/tags", mode="test"))["data"]
    assert {tag["tag"]: tag["values"] for tag in tags} == {"app": len(PEOPLE), "env": 2}
    full = (await shell.gateway.admin("GET", "/limits", mode="test", near=100))["data"]
    assert "Emi Tanaka" in {line["name"] for line in full}
    await shell.gateway.resources.alerts.check()
    alerts = (await shell.gateway.admin("GET", "/alerts", mode="test"))["data"]
    assert 100 in {alert["percent"] for alert in alerts if alert["name"] == "Emi Tanaka"}


async def test_a_second_time_the_same_people_call_with_new_test_keys(shell: Shell) -> None:
    for _ in range(2):
        outcome = await shell.json("demo", "traffic", "--calls", "12", "--seconds", "0")
        assert outcome["calls"] == 12
    assert len(await of_the_demo(shell, "users")) == len(PEOPLE)
    assert len(await of_the_demo(shell, "teams")) == 3
    keys = await of_the_demo(shell, "keys")
    assert len(keys) == len(PEOPLE)
    assert {key["mode"] for key in keys} == {"test"}
