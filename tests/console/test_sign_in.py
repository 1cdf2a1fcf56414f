"""The door: who comes in, how long, and what the browser is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.domain.administrator import Role
from tests.support.administrators import Organisation
from tests.support.console import Visitor, signed_in, words_of
from tests.support.gateway import ADMIN_KEY, gateway_and_provider
from tests.support.ports import free_port


async def test_who_is_not_signed_in_is_led_to_the_door_and_back(world: Organisation):
    who = Visitor(world.gateway)
    led = await who.get("live/keys", q="mine")
    assert (led.status_code, led.headers["location"]) == (303, "/console/sign-in?next=/console/live/keys%3Fq%3Dmine")
    came = await who.request("POST", led.headers["location"].removeprefix("/console/"), data={"key": ADMIN_KEY})
    assert (came.status_code, came.headers["location"]) == (303, "/console/live/keys?q=mine")


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/console/\\evil", "/admin/v1/teams"])
async def test_the_way_back_leads_nowhere_else(world: Organisation, target: str):
    who = Visitor(world.gateway)
    came = await who.sign_in(ADMIN_KEY, target=target)
    assert came.headers["location"] == "/console", came.headers


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(world: Organisation):
    came = await Visitor(world.gateway).sign_in(ADMIN_KEY)
    cookie = came.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/console" in cookie
    assert "Max-Age=43200" in cookie
    assert "Secure" not in cookie, "this is no TLS"


async def test_over_tls_the_cookie_is_secure(tmp_path: Path):
    server = {"port": free_port(), "trusted_proxies": ["127.0.0.1"]}
    async with gateway_and_provider(tmp_path / "data", server=server) as (gateway, _):
        who = Visitor(gateway)
        came = await who.sign_in(ADMIN_KEY, **{"x-forwarded-proto": "https"})
        assert "Secure" in came.headers["set-cookie"]


@pytest.mark.parametrize(
    ("key", "status"),
    [("", 401), ("nonsense", 401), ("dk_live_" + "x" * 50, 401), ("dk_admin_" + "x" * 50, 401)],
)
async def test_a_key_that_is_none_is_refused_and_said_so(world: Organisation, key: str, status: int):
    refused = await Visitor(world.gateway).sign_in(key)
    assert refused.status_code == status
    assert "This key does not fit" in words_of(refused.text)
    assert "set-cookie" not in refused.headers


async def test_an_address_that_guesses_has_to_wait_even_with_the_right_key(world: Organisation):
    who = Visitor(world.gateway)
    for _ in range(10):
        assert (await who.sign_in("wrong")).status_code == 401
    waiting = await who.sign_in(ADMIN_KEY)
    assert waiting.status_code == 429
    assert 200 < int(waiting.headers["retry-after"]) <= 300


async def test_signing_out_ends_the_session_itself(world: Organisation):
    who = await signed_in(world.gateway)
    kept = who.cookie
    out = await who.request("POST", "sign-out", data={"csrf": await who.csrf()})
    assert out.status_code == 303
    assert who.cookie is None
    who.cookie = kept
    assert (await who.get("live/teams")).status_code == 303


async def test_a_form_of_another_session_changes_nothing(world: Organisation):
    who = await signed_in(world.gateway)
    for csrf in ("", "bm9uZQ==", "x"):
        refused = await who.request("POST", "live/teams", data={"csrf": csrf, "action": "create", "name": "Forged"})
        assert refused.status_code == 403
    names = [team["name"] for team in (await world.gateway.admin("GET", "/teams"))["data"]]
    assert "Forged" not in names


async def test_the_secret_of_forms_is_never_written_twice_alike(world: Organisation):
    who = await signed_in(world.gateway)
    assert len({await who.csrf() for _ in range(3)}) == 3


async def test_another_site_can_sign_nobody_in(world: Organisation):
    who = Visitor(world.gateway)
    refused = await who.sign_in(ADMIN_KEY, **{"sec-fetch-site": "cross-site"})
    assert refused.status_code == 403
    assert "set-cookie" not in refused.headers


async def test_a_session_ends_with_the_key_that_opened_it(world: Organisation):
    for change in ("rotate", "disable", "delete"):
        made = await world.gateway.admin("POST", "/administrators", {"name": "Short", "role": "viewer"})
        who = await signed_in(world.gateway, made["key"])
        assert (await who.get("live/teams")).status_code == 200
        path = f"/administrators/{made['id']}"
        if change == "rotate":
            await world.gateway.admin("POST", f"{path}/rotate")
        elif change == "disable":
            await world.gateway.admin("PATCH", path, {"disabled": True})
        else:
            await world.gateway.admin("DELETE", path)
        assert (await who.get("live/teams")).status_code == 303, change


async def test_a_callers_session_ends_when_its_key_is_disabled(world: Organisation):
    who = await signed_in(world.gateway, world.ours.key)
    assert (await who.get("live/mine")).status_code == 200
    await world.gateway.admin("PATCH", f"/keys/{world.ours.key_id}", {"disabled": True})
    assert (await who.get("live/mine")).status_code == 303


async def test_every_answer_carries_the_policy_and_no_page_is_kept(world: Organisation):
    who = await signed_in(world.gateway, world.keys[Role.VIEWER])
    for path in ("live/teams", "live/nothing", "sign-in"):
        answer = await who.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


async def test_what_is_at_no_address_says_so(world: Organisation):
    who = await signed_in(world.gateway)
    for path in ("live/nothing", "other/teams", "assets/0/console.css", "assets/0/../app.py"):
        assert (await who.get(path)).status_code == 404, path
