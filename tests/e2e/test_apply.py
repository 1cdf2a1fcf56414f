"""`darkroom apply`, against a running gateway."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from gateway.cli import app
from gateway.domain.api_key import Mode, new_api_key
from tests.support.gateway import ADMIN_KEY, gateway_and_provider
from tests.support.shell import Shell

SECRETS = ["s" * 32]


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    security = {"admin_key": ADMIN_KEY, "secrets": SECRETS}
    async with gateway_and_provider(tmp_path / "data", security=security) as (gateway, _):
        shell = Shell(gateway, tmp_path)
        shell.env["DARKROOM__SECURITY__SECRETS"] = json.dumps(SECRETS)
        yield shell


def write(shell: Shell, content: Any) -> None:
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (shell.folder / "accounts.yaml").write_text(text, encoding="utf-8")


async def test_accounts_come_from_a_file_and_drift_is_told(shell: Shell) -> None:
    key = await shell.json("key", "hash")
    declared = {name: key[name] for name in ("mode", "prefix", "hash")} | {"name": "ci"}
    user = {"name": "ada", "team": "search", "keys": [declared | {"expires_at": "2099-01-01T00:00:00Z"}]}
    limit = {"metric": "cost_usd", "window": "month", "amount": 500}
    write(shell, {"teams": [{"name": "search", "limits": [limit]}], "users": [user]})

    drift = await shell.run("apply", "-f", "accounts.yaml", "--dry-run", status=2)
    assert "Nothing was changed" in drift
    made = await shell.json("apply", "-f", "accounts.yaml")
    assert [change["action"] for change in made["changes"]] == ["create"] * 3
    assert (await shell.gateway.generate(key["key"], seed=1)).status_code == 200
    assert await shell.run("apply", "-f", "accounts.yaml", "--dry-run") == "All is as the file says.\n"

    refused = await shell.gateway.try_admin("DELETE", f"/users/{made['changes'][1]['id']}")
    assert refused.status_code == 409
    assert refused.json()["error"]["data"] == {"declared_in": "accounts.yaml"}
    told = await shell.run("user", "update", made["changes"][1]["id"], "--name", "eva", status=1)
    assert "declared in accounts.yaml" in told

    write(shell, {"teams": [], "users": []})
    assert "--prune deletes it" in await shell.run("apply", "-f", "accounts.yaml")
    await shell.run("apply", "-f", "accounts.yaml", "--prune")
    assert (await shell.gateway.generate(key["key"], seed=1)).status_code == 403


async def test_a_file_of_thousands_is_taken_and_keeps_the_name_that_it_is_given(shell: Shell) -> None:
    write(shell, {"users": [{"name": f"user {number}", "email": f"{number}@example.com"} for number in range(2000)]})
    made = await shell.json("apply", "-f", "accounts.yaml", "--source", "sales.yaml")
    assert (made["source"], len(made["changes"])) == ("sales.yaml", 2000)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("- a\n- list\n", "has two lists, teams and users"),
        ("{teams: [], keys: []}", "has two lists, teams and users"),
        ("teams: [", "can't be read"),
        ("teams:\n- name: x\n  limit: []\n", "accounts.yaml:3: teams.0.limit: there is no such field"),
        (
            "teams:\n- nam: x\n",
            "accounts.yaml:2: teams.0.name: it has to be there\naccounts.yaml:2: teams.0.nam: there",
        ),
        ("users:\n- name: x\n  limits:\n  - {metric: a}\n", "accounts.yaml:4: users.0.limits.0.metric: Input should"),
        ({"users": [{"name": "x", "keys": [{"name": "k", "prefix": "dk", "hash": "0"}]}]}, "users[x].keys[k].prefix"),
    ],
)
async def test_a_file_with_a_mistake_says_which(shell: Shell, content: Any, told: str) -> None:
    write(shell, content)
    assert told in await shell.run("apply", "-f", "accounts.yaml", status=1)


def test_the_hash_of_a_key_that_is_there_shows_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DARKROOM__SECURITY__SECRETS", json.dumps(SECRETS))
    monkeypatch.chdir(tmp_path)
    key = new_api_key(Mode.TEST)
    done = CliRunner().invoke(app, ["key", "hash", "--existing"], input=f"{key.text}\n")
    assert done.exit_code == 0
    assert key.text not in done.output
    assert key.prefix in done.output
    assert CliRunner().invoke(app, ["key", "hash", "--existing"], input="dk_live_x\n").exit_code == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("users:\n- name: ada\n  labels: {a: b}\n  labels: {}\n", "labels stands there twice"),
        ("users: &all\n- *all\n", "an alias holds itself"),
        ("users:\n- name: ada\n  limits: [{metric: images, window: day, amount: .inf}]\n", "inf is no value of JSON"),
        ("users:\n- name: !!binary aGVsbG8=\n", "b'hello' is no value of JSON"),
        ("users:\n- name: 2024-13-45\n", "can't be read"),
    ],
)
async def test_what_only_yaml_could_mean_is_refused(shell: Shell, text: str, told: str) -> None:
    write(shell, text)
    assert told in await shell.run("apply", "-f", "accounts.yaml", status=1)


async def test_what_several_have_in_common_may_be_said_once(shell: Shell) -> None:
    write(shell, "users:\n- &like\n  name: ada\n  labels: {floor: '3'}\n- {<<: *like, name: bob}\n")
    made = await shell.json("apply", "-f", "accounts.yaml")
    assert [change["name"] for change in made["changes"]] == ["ada", "bob"]
