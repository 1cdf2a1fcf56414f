"""A month closed by an administrator, and read back as JSON, CSV and a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway.domain.administrator import Role
from gateway.domain.month import parse_month
from gateway.storage import usage_log
from tests.support.administrators import Organisation, organisation
from tests.support.ledger import PRICE, usage_row
from tests.support.shell import Shell

MANDATORY = {  # FOCUS 1.2: feature level "Mandatory"
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost",
    "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName",
    "ServiceCategory", "ServiceName",
}  # fmt: skip


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Organisation]:
    """January and February 2026 closed; a row came to January in between."""
    async with organisation(tmp_path / "data") as made:
        await made.gateway.admin("PATCH", f"/keys/{made.ours.key_id}", {"name": "=HYPERLINK(1)"})
        await call_in(made, 1)
        assert (await close(made, "2026-01")).status_code == 201
        await call_in(made, 2)
        assert (await close(made, "2026-02")).status_code == 201
        yield made


async def call_in(world: Organisation, day: int) -> None:
    """What both teams bought on a day in January."""
    at_ms = parse_month("2026-01").start_ms + day * 86_400_000
    rows = [
        usage_row(at_ms=at_ms, key_id=team.key_id, user_id=team.user_id, team_id=team.id, cost_micro_usd=PRICE * number)
        for number, team in enumerate((world.ours, world.theirs), 1)
    ]
    await world.gateway.resources.database.write(lambda conn: usage_log.add(conn, rows))


async def close(world: Organisation, month: str) -> httpx.Response:
    return await world.call(Role.OPERATOR, "POST", "/statements", {"month": month})


async def read_csv(world: Organisation, who: Role, month: str) -> list[dict[str, str]]:
    headers = {"Authorization": f"Bearer {world.keys[who]}", "Accept": "text/csv"}
    response = await world.gateway.http.get(f"{world.gateway.base_url}/admin/v1/statements/{month}", headers=headers)
    assert response.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(response.text)))


async def test_a_closed_month_is_shown_with_its_lines(world: Organisation) -> None:
    statement = await world.data(Role.VIEWER, "/statements/2026-01")
    assert (statement["object"], statement["month"], statement["mode"]) == ("statement", "2026-01", "live")
    assert statement["closed_by"] == f"The operator ({world.ids[Role.OPERATOR]})"
    assert statement["cost_usd"] == statement["total"]["cost_usd"] == "0.195"
    line = next(each for each in statement["lines"] if each["team_id"] == world.theirs.id)
    assert (line["team"], line["user"], line["key"]) == ("Theirs", "Theirs user", "Theirs key")
    assert (line["of_month"], line["cost_usd"], line["images"]) == ("2026-01", "0.13", 1)
    heads = await world.data(Role.VIEWER, "/statements")
    assert [(head["month"], head["cost_usd"]) for head in heads] == [("2026-02", "0.195"), ("2026-01", "0.195")]
    assert await world.data(Role.VIEWER, "/statements", mode="test") == []


async def test_what_can_t_be_closed_says_why(world: Organisation) -> None:
    for body, status in (
        ({"month": "2026-01"}, 409),
        ({"month": "9990-01"}, 409),
        ({"month": "January"}, 400),
        ({"month": "2026-03", "mode": "dead"}, 400),
    ):
        assert (await world.call(Role.OWNER, "POST", "/statements", body)).status_code == status
    for path, mode, status in (("2025-12", "live", 404), ("2026-01", "test", 404), ("%00", "live", 400)):
        assert (await world.call(Role.OWNER, "GET", f"/statements/{path}", mode=mode)).status_code == status


async def test_a_team_sees_its_own_lines(world: Organisation) -> None:
    heads = await world.data(Role.TEAM_ADMIN, "/statements")
    assert [head["cost_usd"] for head in heads] == ["0.065", "0.065"]
    statement = await world.data(Role.TEAM_ADMIN, "/statements/2026-02")
    assert {line["team_id"] for line in statement["lines"]} == {world.ours.id}
    assert statement["total"]["cost_usd"] == statement["cost_usd"] == "0.065"
    assert {row["SubAccountId"] for row in await read_csv(world, Role.TEAM_ADMIN, "2026-02")} == {world.ours.id}


async def test_the_csv_has_focus_s_columns_and_no_formula(world: Organisation) -> None:
    rows = await read_csv(world, Role.VIEWER, "2026-01")
    assert rows[0].keys() >= MANDATORY
    ours = next(row for row in rows if row["SubAccountId"] == world.ours.id)
    period = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")
    assert (ours["BillingPeriodStart"], ours["BillingPeriodEnd"]) == period
    assert (ours["ChargePeriodStart"], ours["ChargePeriodEnd"]) == period
    assert {ours[name] for name in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")} == {"0.065"}
    assert (ours["BillingCurrency"], ours["ChargeCategory"], ours["ChargeClass"]) == ("USD", "Usage", "")
    assert (ours["SkuId"], ours["ProviderName"], ours["ResourceId"]) == ("flux-pro", "aimlapi", world.ours.key_id)
    assert (ours["ConsumedQuantity"], ours["ConsumedUnit"]) == ("1", "Images")
    assert ours["ResourceName"] == "'=HYPERLINK(1)"
    assert json.loads(ours["Tags"])["darkroom/user"] == "Ours user"
    assert (ours["x_UserId"], ours["x_OfMonth"], ours["x_SavedCost"]) == (world.ours.user_id, "2026-01", "0")


async def test_what_came_late_is_a_correction(world: Organisation) -> None:
    rows = await read_csv(world, Role.VIEWER, "2026-02")
    for row in rows:
        assert (row["ChargeCategory"], row["ChargeClass"], row["ConsumedQuantity"]) == ("Adjustment", "Correction", "")
        assert (row["BillingPeriodStart"], row["ChargePeriodStart"]) == ("2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z")
    assert sorted(row["BilledCost"] for row in rows) == ["0.065", "0.13"]


async def test_the_command_line_closes_lists_and_shows(world: Organisation, tmp_path: Path) -> None:
    shell = Shell(world.gateway, tmp_path)
    assert (await shell.json("usage", "close", "2026-03"))["cost_usd"] == "0"
    assert "2026-03 is closed" in await shell.run("usage", "close", "2026-03", status=1)
    assert [each["month"] for each in await shell.json("usage", "statements")] == ["2026-03", "2026-02", "2026-01"]
    assert "Theirs user" in await shell.run("usage", "statement", "2026-01")
    text = await shell.run("usage", "statement", "2026-01", "--format", "csv")
    assert len(list(csv.DictReader(io.StringIO(text)))) == 2
    assert (await shell.json("usage", "statement", "2026-01"))["total"]["cost_usd"] == "0.195"
    assert (await shell.json("usage", "--group-by", "team"))["total"]["generations"] == 2
    assert await shell.json("usage", "statements", "--mode", "test") == []
