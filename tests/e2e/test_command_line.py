"""`darkroom` against a running gateway, as an operator types it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support.gateway import gateway_and_provider
from tests.support.shell import Shell


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    async with gateway_and_provider(tmp_path / "data") as (gateway, _):
        yield Shell(gateway, tmp_path)


async def test_an_operator_gives_out_a_key_with_a_budget_and_sees_what_is_spent(shell: Shell) -> None:
    team = await shell.json("team", "create", "Search")
    user = await shell.json("user", "create", "Ada", "--team", team["id"])
    await shell.run("limit", "set", "--user", user["id"], "cost_usd", "month", "0.07")
    key = await shell.json("key", "create", "--user", user["id"], "--model", "flux-pro")
    assert (await shell.gateway.generate(key["key"], seed=1)).status_code == 200
    assert (await shell.gateway.generate(key["key"], seed=2)).status_code == 429
    [row] = (await shell.json("usage", "--group-by", "team,user,model"))["data"]
    assert (row["group"]["team"], row["cost_usd"], row["errors"]) == (team["id"], "0.065", 1)
    csv = await shell.run("usage", "--group-by", "user", "--format", "csv")
    assert csv.splitlines()[1].startswith(f"{user['id']},")
    rotated = await shell.json("key", "rotate", key["id"])
    assert rotated["key"] != key["key"]
    await shell.run("key", "delete", rotated["id"])
    assert (await shell.gateway.generate(rotated["key"], seed=1)).status_code in {401, 403}
    assert [limit["amount"] for limit in await shell.json("limit", "list", "--user", user["id"])] == ["0.07"]
    await shell.run("limit", "unset", "--user", user["id"], "cost_usd", "month")
    assert await shell.json("limit", "list", "--user", user["id"]) == []


async def test_a_picture_is_generated_and_saved(shell: Shell) -> None:
    shell.env["DARKROOM_API_KEY"] = await shell.gateway.new_key(mode="test")
    said = await shell.run("generate", "A lighthouse", "--seed", "7", "--size", "512x512", "-o", "one.jpg")
    assert "0.065" in said
    with Image.open(shell.folder / "one.jpg") as picture:
        assert picture.size == (512, 512)
    assert "cache" in await shell.run("generate", "A lighthouse", "--seed", "7", "--size", "512x512", "-o", "two.jpg")
    assert (shell.folder / "one.jpg").read_bytes() == (shell.folder / "two.jpg").read_bytes()


async def test_a_list_is_warmed_and_a_second_time_costs_nothing(shell: Shell) -> None:
    shell.env["DARKROOM_API_KEY"] = await shell.gateway.new_key()
    lines = [json.dumps({"model": "flux-pro", "prompt": "A lighthouse", "seed": seed}) for seed in range(1, 6)]
    (shell.folder / "list.jsonl").write_text("\n".join(lines))
    assert "0.325" in await shell.run("warm", "list.jsonl", "--yes")
    assert (await shell.gateway.usage())["generations"] == 5
    await shell.run("warm", "list.jsonl", "--yes")
    assert (await shell.gateway.usage())["generations"] == 5
    assert (await shell.json("cache", "stats"))["entries"] == 5
    await shell.run("cache", "purge", "--model", "flux-pro", "--yes")
    assert (await shell.json("cache", "stats"))["entries"] == 0


async def test_our_books_are_compared_with_the_providers(shell: Shell) -> None:
    key = await shell.gateway.new_key()
    await shell.gateway.generate(key)
    assert (await shell.json("reconcile"))["matched"] == 1
    [row] = await shell.json("generation", "list", "--status", "succeeded")
    (shell.folder / "export.csv").write_text("created,client_request_id,cost_usd\n2026-11-22T00:00:00Z,x,1\n")
    found = json.loads(await shell.run("reconcile", "--csv", "export.csv", "--from", "2026-11-01", "--json", status=2))
    assert (found["drift"], found["theirs_only_count"]) == (True, 1)
    assert "theirs only" in await shell.run("reconcile", "--csv", "export.csv", "--from", "2026-11-01", status=2)
    corrected = await shell.json("generation", "adjust", row["id"], "0.07", "--reason", "their invoice")
    assert corrected["adjusted_usd"] == "0.005"
    assert "adjustment" in await shell.run("generation", "settle", row["id"], "0", "--reason", "none", status=1)
    assert (await shell.json("generation", "get", row["id"]))["cost_usd"] == "0.065"


async def test_the_doctor_looks_beside_the_running_gateway_and_says_what_is_wrong(shell: Shell) -> None:
    await shell.gateway.generate(await shell.gateway.new_key(), seed=1)
    settings = shell.gateway.resources.settings
    provider = settings.providers[0].model_dump(mode="json") | {"api_keys": [{"value": "provider-secret"}]}
    config = {"data_dir": str(settings.data_dir), "providers": [provider]}
    (shell.folder / "config.yaml").write_text(json.dumps(config))
    checks = await shell.json("doctor")
    assert {check["status"] for check in checks} == {"ok"}, checks
    assert any("balance $" in check["said"] for check in checks)
    for picture in (settings.data_dir / "images").glob("??/*"):
        picture.unlink()
    assert "FAILED  pictures" in await shell.run("doctor", status=1)
    (shell.folder / "config.yaml").write_text("models: [{name: unheard-of}]\n")
    assert "FAILED  configuration" in await shell.run("doctor", status=1)


async def test_a_mistake_is_told_and_ends_with_1(shell: Shell) -> None:
    assert "no user" in (await shell.run("user", "get", "user_none", status=1)).lower()
    assert "There is no dimension" in await shell.run("usage", "--group-by", "colour", status=1)
    shell.env["DARKROOM_ADMIN_KEY"] = "wrong"
    assert "admin key is wrong" in await shell.run("user", "list", status=1)
    shell.env["DARKROOM_BASE_URL"] = "http://127.0.0.1:9"
    assert "darkroom serve" in await shell.run("user", "list", status=1)
