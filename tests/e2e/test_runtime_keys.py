"""Provider keys at run time: added, disabled, rotated, deleted; sealed in SQL, and nowhere to be seen."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.provider import FakeProvider, running
from gateway.errors import ConfigurationError
from tests.support.gateway import Gateway, gateway_and_provider, running_gateway, settings_for
from tests.support.ports import free_port
from tests.support.shell import Shell

SECRET = "run-time-secret-of-the-company"
OTHER = "another-secret-of-the-company"
KEYS = "/providers/aimlapi/keys"


def provider(*keys: str) -> FakeProvider:
    return FakeProvider(keys=["provider-secret", SECRET, OTHER, *keys])


async def keys_of(gateway: Gateway) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await gateway.admin("GET", KEYS))["data"]
    return found


async def test_a_key_added_at_run_time_serves_the_next_call_and_after_a_restart(tmp_path: Path) -> None:
    fake = provider()
    async with running(fake) as provider_url:
        settings = settings_for(tmp_path, provider_url, port=free_port(), provider_keys=[])
        async with running_gateway(settings) as gateway:
            key = await gateway.new_key()
            assert (await gateway.generate(key)).status_code == 503
            made = await gateway.admin("POST", KEYS, {"value": SECRET, "name": "second account", "weight": 3})
            assert (made["state"], made["source"], made["hint"], made["weight"]) == ("healthy", "stored", "...pany", 3)
            assert (await gateway.generate(key)).status_code == 200
        async with running_gateway(settings) as gateway:
            assert (await gateway.generate(key)).status_code == 200
            assert fake.books.calls_by_key == {SECRET: 2}
            assert {row["provider_key_id"] for row in await gateway.generations()} >= {made["id"]}


async def test_a_disabled_key_rests_whether_stored_or_configured_and_is_enabled_again(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path, provider()) as (gateway, fake):
        key = await gateway.new_key()
        [configured] = await keys_of(gateway)
        stored = await gateway.admin("POST", KEYS, {"value": SECRET})
        off = await gateway.admin("PATCH", f"{KEYS}/{configured['id']}", {"disabled": True})
        assert (off["disabled"], off["source"]) == (True, "configuration")
        assert (await gateway.generate(key)).status_code == 200
        await gateway.admin("PATCH", f"{KEYS}/{stored['id']}", {"disabled": True})
        refused = await gateway.generate(key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "provider_unavailable")
        assert "disabled" in refused.json()["error"]["message"]
        await gateway.admin("PATCH", f"{KEYS}/{configured['id']}", {"disabled": False})
        assert (await gateway.generate(key)).status_code == 200
        assert fake.books.calls_by_key == {SECRET: 1, "provider-secret": 1}


async def test_a_rotated_key_keeps_its_id_and_serves_with_its_new_secret(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path, provider(), provider_keys=[]) as (gateway, fake):
        key = await gateway.new_key()
        made = await gateway.admin("POST", KEYS, {"value": SECRET})
        fake.books.key_faults[SECRET] = "revoked"
        assert (await gateway.generate(key)).status_code == 503
        assert [found["state"] for found in await keys_of(gateway)] == ["ejected"]
        rotated = await gateway.admin("PATCH", f"{KEYS}/{made['id']}", {"value": OTHER})
        assert (rotated["id"], rotated["state"]) == (made["id"], "healthy")
        assert (await gateway.generate(key)).status_code == 200


async def test_an_ejected_key_works_again_when_an_administrator_says_so(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key()
        fake.books.key_faults["provider-secret"] = "revoked"
        assert (await gateway.generate(key)).status_code == 503
        del fake.books.key_faults["provider-secret"]
        assert (await gateway.generate(key)).status_code == 503
        [ejected] = await keys_of(gateway)
        await gateway.admin("PATCH", f"{KEYS}/{ejected['id']}", {"disabled": False})
        assert (await gateway.generate(key)).status_code == 200


async def test_a_deleted_key_is_gone_and_its_secret_with_it(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path, provider()) as (gateway, fake):
        key = await gateway.new_key()
        made = await gateway.admin("POST", KEYS, {"value": SECRET})
        await gateway.admin("DELETE", f"{KEYS}/{made['id']}")
        assert (await gateway.try_admin("GET", f"{KEYS}/{made['id']}")).status_code == 404
        for _ in range(3):
            assert (await gateway.generate(key)).status_code == 200
        assert fake.books.calls_by_key == {"provider-secret": 3}


@pytest.mark.parametrize(
    ("method", "place", "body", "status", "said"),
    [
        ("POST", KEYS, {"value": "provider-secret"}, 409, "already"),
        ("POST", KEYS, {"value": ""}, 400, "value"),
        ("POST", KEYS, {"value": "two words"}, 400, "value"),
        ("POST", KEYS, {"value": "x", "weight": 0}, 400, "weight"),
        ("POST", "/providers/sandbox/keys", {"value": "x"}, 400, "takes no keys"),
        ("POST", "/providers/nobody/keys", {"value": "x"}, 404, "there is"),
        ("GET", f"{KEYS}/pkey_none", None, 404, "no key"),
        ("PATCH", f"{KEYS}/CONFIGURED", {"weight": 2}, 409, "configuration"),
        ("PATCH", f"{KEYS}/CONFIGURED", {"value": "new"}, 409, "configuration"),
        ("DELETE", f"{KEYS}/CONFIGURED", None, 409, "configuration"),
    ],
)
async def test_what_cannot_be_done_to_a_key_is_refused(
    tmp_path: Path, method: str, place: str, body: Any, status: int, said: str
) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, _):
        [configured] = await keys_of(gateway)
        refused = await gateway.try_admin(method, place.replace("CONFIGURED", configured["id"]), body)
        assert refused.status_code == status
        assert said in refused.json()["error"]["message"]


async def test_the_same_key_added_by_many_at_once_is_added_once(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path, provider()) as (gateway, _):
        made = await asyncio.gather(*(gateway.try_admin("POST", KEYS, {"value": SECRET}) for _ in range(5)))
        assert sorted(answer.status_code for answer in made) == [201, 409, 409, 409, 409]


async def test_a_secret_is_nowhere_to_be_seen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with gateway_and_provider(tmp_path / "data", provider(), provider_keys=[]) as (gateway, fake):
        made = await gateway.try_admin("POST", KEYS, {"value": SECRET})
        fake.books.key_faults[SECRET] = "revoked"
        told = [made, await gateway.generate(await gateway.new_key()), await gateway.get("/metrics")]
        told += [await gateway.try_admin("GET", place) for place in (KEYS, "/providers", "/audit", "/generations")]
        assert all(SECRET not in answer.text for answer in told)
    logged = capfd.readouterr()
    assert "provider_key_ejected" in logged.out + logged.err
    assert SECRET not in logged.out + logged.err
    kept = b"".join(file.read_bytes() for file in (tmp_path / "data").rglob("*") if file.is_file())
    assert SECRET.encode() not in kept


async def test_the_encrypting_key_is_changed_without_a_break(tmp_path: Path) -> None:
    old, new = (urlsafe_b64encode(letter * 32).decode() for letter in (b"o", b"n"))
    fake = provider()
    async with running(fake) as provider_url:

        def settings(*keys: str) -> Any:
            security = {"admin_key": "admin-key-of-the-tests", "encryption_keys": list(keys)}
            return settings_for(tmp_path, provider_url, port=free_port(), provider_keys=[], security=security)

        async with running_gateway(settings(old)) as gateway:
            await gateway.admin("POST", KEYS, {"value": SECRET})
        with pytest.raises(ConfigurationError, match="lacks the key"):
            async with running_gateway(settings(new)):
                pass
        async with running_gateway(settings(new, old)) as gateway:
            assert (await gateway.admin("POST", "/providers/reencrypt"))["reencrypted"] == 1
            assert (await gateway.admin("POST", "/providers/reencrypt"))["reencrypted"] == 0
        async with running_gateway(settings(new)) as gateway:
            assert (await gateway.generate(await gateway.new_key())).status_code == 200


async def test_an_operator_minds_the_keys_by_command_line(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path / "data", provider()) as (gateway, _):
        shell = Shell(gateway, tmp_path)
        shell.env["COMPANY_KEY"] = SECRET
        made = await shell.json("provider-key", "create", "--value-from", "COMPANY_KEY", "--name", "second")
        assert (await shell.json("provider-key", "get", made["id"]))["name"] == "second"
        off = await shell.json("provider-key", "update", made["id"], "--disable", "--weight", "2")
        assert (off["disabled"], off["weight"]) == (True, 2)
        assert [key["source"] for key in await shell.json("provider-key", "list")] == ["configuration", "stored"]
        assert json.loads(await shell.run("provider-key", "reencrypt", "--json")) == {"reencrypted": 0}
        await shell.run("provider-key", "delete", made["id"])
        assert "no such environment variable" in await shell.run(
            "provider-key", "create", "--value-from", "NONE_SUCH", status=1
        )
