"""Our books beside the provider's: what was unknown is settled by them, and what differs is shown."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.provider import FakeProvider
from tests.e2e.test_money import billed, books
from tests.support.gateway import PATH, Gateway, gateway_and_provider
from tests.support.http_client import open_client
from tests.support.waiting import until

NO_PATIENCE: dict[str, Any] = {"provider_timeout_s": 0.4, "books_lag_s": 0}


async def reconcile(gateway: Gateway, **asked: Any) -> dict[str, Any]:
    found: dict[str, Any] = await gateway.admin("POST", "/reconcile", asked)
    return found


async def test_a_lost_answer_is_settled_by_the_books_to_what_was_charged(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key(limits=[{"metric": "cost_usd", "window": "month", "amount": "1"}])
        fake.script.append({"answer_fault": "reset_after_charge", "price_usd": "0.07"})
        assert (await gateway.generate(key)).status_code == 504
        await gateway.generate(key)
        found = await reconcile(gateway)
        assert (found["settled"], found["matched"], found["drift"]) == (1, 2, False)
        assert found["ours_usd"] == found["theirs_usd"] == str(billed(fake))
        [row] = await gateway.generations(status="failed")
        assert (row["settled_by"], row["cost_usd"], row["error"]["charged"]) == ("books", "0.07", "yes")
        assert await books(gateway) == billed(fake)


async def test_a_call_that_the_books_can_no_longer_miss_was_not_bought(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path, **NO_PATIENCE) as (gateway, fake):
        key = await gateway.new_key()
        fake.gate = asyncio.Event()  # the order arrives and nothing comes of it
        assert (await gateway.generate(key)).status_code == 504
        [unknown] = await gateway.generations(status="unknown")
        fake.books.rows.clear()
        resources = gateway.resources
        await until(resources.settlement.settle_unknown)
        [row] = await gateway.generations()
        assert (row["id"], row["status"], row["cost_usd"]) == (unknown["id"], "failed", "0")
        assert (row["settled_by"], row["error"]["charged"]) == ("books", "no")
        fake.gate.set()


async def test_what_is_too_young_for_the_books_stays_held(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path, provider_timeout_s=0.4) as (gateway, fake):
        key = await gateway.new_key()
        fake.script.append({"answer_fault": "never"})
        assert (await gateway.generate(key)).status_code == 504
        fake.books.hide_from_books = 60.0
        found = await reconcile(gateway)
        assert (found["drift"], found["open_count"], found["settled"]) == (False, 1, 0)
        assert [row["status"] for row in await gateway.generations()] == ["unknown"]


async def test_a_charge_that_is_none_of_ours_is_shown(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake), open_client(connect_timeout_s=5) as http:
        await gateway.generate(await gateway.new_key())
        provider_url = gateway.resources.settings.providers[0].base_url  # type: ignore[union-attr]
        headers = {"Authorization": "Bearer provider-secret"}
        body = {"model": "flux-pro", "prompt": "Somebody else's"}
        await http.post(f"{provider_url}{PATH}", json=body, headers=headers)
        found = await reconcile(gateway)
        assert (found["drift"], found["matched"], found["theirs_only_count"]) == (True, 1, 1)
        assert found["theirs_only"][0]["cost_usd"] == "0.065"
        assert Decimal(found["theirs_usd"]) == billed(fake)


async def test_an_amount_that_differs_is_shown_and_becomes_an_adjustment_when_asked_for(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path, FakeProvider(state_cost=False, price_usd="0.08")) as (gateway, fake):
        key = await gateway.new_key(limits=[{"metric": "cost_usd", "window": "month", "amount": "10"}])
        await gateway.generate(key)
        [difference] = (await reconcile(gateway))["differing"]
        assert (difference["ours_usd"], difference["theirs_usd"]) == ("0.065", "0.08")
        found = await reconcile(gateway, adjust=True)
        assert (found["drift"], found["adjusted"], found["ours_usd"]) == (False, 1, "0.08")
        [row] = await gateway.generations()
        assert (row["cost_usd"], row["adjusted_usd"]) == ("0.065", "0.015")
        assert await books(gateway) == billed(fake) == Decimal("0.08")
        receipt = (await gateway.get(f"/v1/generations/{row['id']}", key)).json()
        assert [each["amount_usd"] for each in receipt["adjustments"]] == ["0.015"]
        usage = (await gateway.get("/v1/usage", key)).json()
        assert "9.92" in [limit["left"] for limit in usage["limits"]]


async def test_what_we_booked_and_they_did_not_is_shown(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path, **NO_PATIENCE) as (gateway, fake):
        await gateway.generate(await gateway.new_key())
        [row] = await gateway.generations()
        fake.books.hide_from_books = [row["id"]]

        async def drifted() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (await reconcile(gateway))["ours_only"]
            return found

        assert [own["id"] for own in await until(drifted)] == [row["id"]]


async def test_an_export_stands_in_for_the_providers_logs(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        await gateway.generate(await gateway.new_key())
        [row] = await gateway.generations()
        lines = [
            "created,status,model,cost_usd,request_id,client_request_id",
            f"{row['created_at']},succeeded,flux-pro,0.065,r1,{row['id']}",
            f"{row['created_at']},succeeded,flux-pro,0.5,r2,",
        ]
        fake.books.books_status = 500
        found = await reconcile(gateway, csv="\n".join(lines))
        assert (found["matched"], found["theirs_only_count"], found["theirs_usd"]) == (1, 1, "0.565")


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"csv": "when,what\n1,2"}, 400, "no column"),
        ({"csv": "created,client_request_id,cost_usd\nyesterday,x,1"}, 400, "Line 2"),
        ({"provider": "sandbox"}, 400, "no books"),
        ({"provider": "nobody"}, 404, "there is"),
        ({"from": "2026-01-02", "to": "2026-01-01"}, 400, "before"),
    ],
)
async def test_what_cannot_be_reconciled_is_refused(
    tmp_path: Path, asked: dict[str, Any], status: int, said: str
) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, _):
        refused = await gateway.try_admin("POST", "/reconcile", asked)
        assert refused.status_code == status
        assert said in refused.json()["error"]["message"]


async def test_books_that_cannot_be_read_are_a_refusal_and_settle_nothing(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        fake.script.append({"answer_fault": "reset_after_charge"})
        await gateway.generate(await gateway.new_key())
        fake.books.books_status = 500
        assert (await gateway.try_admin("POST", "/reconcile", {})).status_code == 503
        assert await gateway.resources.settlement.settle_unknown() == 0
        assert [row["status"] for row in await gateway.generations()] == ["unknown"]


async def test_without_books_a_day_later_the_estimate_is_posted(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        fake.script.append({"answer_fault": "reset_after_charge"})
        await gateway.generate(await gateway.new_key())
        fake.books.books_status = 500
        [row] = await gateway.generations(status="unknown")
        assert await gateway.resources.settlement.settle_unknown() == 0
        assert "darkroom_unknown_purchases 1.0" in (await gateway.get("/metrics")).text
        await gateway.age(row["id"], hours=25)
        assert await gateway.resources.settlement.settle_unknown() == 1
        assert "darkroom_unknown_purchases 0.0" in (await gateway.get("/metrics")).text
        [row] = await gateway.generations()
        assert (row["status"], row["cost_usd"], row["settled_by"]) == ("failed", "0.065", "estimate")


async def test_an_administrator_settles_and_corrects_each_once_it_may(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        fake.script.append({"answer_fault": "reset_after_charge"})
        await gateway.generate(await gateway.new_key())
        [row] = await gateway.generations()
        place = f"/generations/{row['id']}"
        said = {"cost_usd": "0.01", "reason": "their invoice"}
        assert (await gateway.try_admin("POST", f"{place}/adjust", said)).status_code == 409
        assert (await gateway.admin("POST", f"{place}/settle", said))["cost_usd"] == "0.01"
        assert (await gateway.try_admin("POST", f"{place}/settle", said)).status_code == 409
        corrected = await gateway.admin("POST", f"{place}/adjust", said | {"cost_usd": "0.005"})
        assert (corrected["cost_usd"], corrected["adjusted_usd"]) == ("0.01", "-0.005")
        actions = [event["action"] for event in (await gateway.admin("GET", "/audit", object_id=row["id"]))["data"]]
        assert sorted(actions) == ["generation.adjust", "generation.settle"]
        for bad in ({"cost_usd": "-1", "reason": "x"}, {"cost_usd": "NaN", "reason": "x"}, {"cost_usd": "1"}):
            assert (await gateway.try_admin("POST", f"{place}/adjust", bad)).status_code == 400
        assert (await gateway.try_admin("POST", "/generations/gen_none/settle", said)).status_code == 404
