"""A user erased while the gateway serves: addresses, cache, keys, the command line, and a purchase under way."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.demo.provider import FakeProvider
from tests.support.gateway import gateway_and_provider
from tests.support.shell import Shell


async def test_pictures_answer_410_and_equal_calls_of_others_buy_anew(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path / "data") as (gateway, fake):
        user_id = await gateway.new_user(name="Grace", email="grace@example.com")
        key, other = await gateway.new_key(user_id=user_id), await gateway.new_key()
        bought = await gateway.generate(key, seed=1, headers={"Darkroom-Tags": "for=grace"})
        [picture] = [image["url"] for image in bought.json()["data"]]
        assert (await gateway.generate(other, seed=1)).headers["darkroom-cost-usd"] == "0"
        before = await gateway.usage()
        erased = await gateway.admin("POST", f"/users/{user_id}/erase")
        assert erased == {
            "object": "erasure",
            "user_id": user_id,
            "name": f"erased user {user_id[-6:]}",
            "keys": 1,
            "generations": 1,
            "entries": 1,
            "calls": 1,
        }
        assert (await gateway.get(picture)).status_code == 410
        assert (await gateway.generate(key, seed=1)).status_code == 403
        assert (await gateway.try_admin("GET", f"/users/{user_id}")).status_code == 404
        assert await gateway.usage() == before
        assert (await gateway.generate(other, seed=1)).headers["cache-status"] == "darkroom; fwd=miss; stored"
        assert fake.calls == 2
        [row] = await gateway.generations(user_id=user_id)
        assert (row["cost_usd"], row["status"], row["fingerprint"]) == ("0.065", "succeeded", "(erased)")
        assert [call["tags"] for call in await gateway.requests(user_id=user_id, outcome="bought")] == [None]


async def test_a_user_with_a_purchase_under_way_is_erased_when_it_is_over(tmp_path: Path) -> None:
    fake = FakeProvider()
    fake.gate = asyncio.Event()
    async with gateway_and_provider(tmp_path, fake) as (gateway, _):
        user_id = await gateway.new_user()
        key = await gateway.new_key(user_id=user_id)
        buying = asyncio.create_task(gateway.generate(key, seed=1))
        await fake.wait_for_calls(1)
        await gateway.admin("DELETE", f"/users/{user_id}")
        refused = await gateway.try_admin("POST", f"/users/{user_id}/erase")
        assert (refused.status_code, refused.headers["retry-after"]) == (409, "30")
        fake.gate.set()
        assert (await buying).status_code == 200
        assert (await gateway.admin("POST", f"/users/{user_id}/erase"))["generations"] == 1


async def test_a_picture_that_cannot_be_fetched_does_not_hold_the_erasure_up(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path, FakeProvider(image_fault="missing")) as (gateway, fake):
        user_id = await gateway.new_user()
        key = await gateway.new_key(user_id=user_id)
        assert (await gateway.generate(key, seed=1)).status_code == 502
        await gateway.admin("DELETE", f"/users/{user_id}")
        assert (await gateway.admin("POST", f"/users/{user_id}/erase"))["generations"] == 1
        [row] = await gateway.generations(status="failed")
        assert (row["cost_usd"], row["user_id"]) == ("0.065", user_id)
        fake.behaviour.image_fault = None
        assert (await gateway.generate(await gateway.new_key(), seed=1)).status_code == 200
        assert len(fake.bill) == 2


async def test_the_command_asks_first(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path / "data") as (gateway, _):
        shell = Shell(gateway, tmp_path)
        user_id = await gateway.new_user()
        assert "for good" in await shell.run("user", "erase", user_id, status=1)
        assert (await shell.json("user", "get", user_id))["name"] == "A user"
        assert (await shell.json("user", "erase", user_id, "--yes"))["user_id"] == user_id
        assert "erased user" in await shell.run("user", "erase", user_id, "--yes")
        assert "never was" in await shell.run("user", "erase", "user_none", "--yes", status=1)
