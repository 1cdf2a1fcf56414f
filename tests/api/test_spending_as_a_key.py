"""An administrator tries a key out: as its caller would be served, with its money, and on record."""

from __future__ import annotations

from typing import Any

from gateway.domain.administrator import Role
from tests.support.administrators import Organisation

BODY: dict[str, Any] = {"model": "flux-pro", "prompt": "A lighthouse at dawn", "seed": 5}


async def test_the_key_pays_and_the_audit_log_says_who_did_it(world: Organisation) -> None:
    path = f"/keys/{world.ours.key_id}/images"
    quoted = await world.call(Role.OPERATOR, "POST", f"{path}/quote", BODY)
    assert (quoted.json()["cost_usd"], quoted.json()["hit"]) == ("0.065", False)
    bought = await world.call(Role.OPERATOR, "POST", f"{path}/generations", BODY)
    assert bought.headers["cache-status"] == "darkroom; fwd=miss; stored"
    again = await world.gateway.generate(world.ours.key, **BODY)
    assert again.headers["cache-status"] == "darkroom; hit"
    rows = await world.gateway.requests(key_id=world.ours.key_id)
    assert [row["outcome"] for row in rows[:2]] == ["hit", "bought"]
    [event] = (await world.gateway.admin("GET", "/audit", action="key.spend"))["data"]
    assert event["actor"] == f"The operator ({world.ids[Role.OPERATOR]})"
    assert event["object_id"] == world.ours.key_id


async def test_the_keys_limits_and_state_hold(world: Organisation) -> None:
    path = f"/keys/{world.ours.key_id}/images/generations"
    await world.gateway.admin(
        "PUT", f"/keys/{world.ours.key_id}/limits", [{"metric": "images", "window": "day", "amount": "1"}]
    )
    refused = await world.call(Role.OWNER, "POST", path, BODY)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_exceeded")
    await world.gateway.admin("PATCH", f"/keys/{world.ours.key_id}", {"disabled": True})
    refused = await world.call(Role.OWNER, "POST", path, BODY)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "key_disabled")
    refused = await world.call(Role.OWNER, "POST", path.replace("generations", "quote"), {**BODY, "seed": 0})
    assert refused.status_code == 403


async def test_what_is_wrong_with_the_body_is_said_as_to_a_caller(world: Organisation) -> None:
    path = f"/keys/{world.ours.key_id}/images/generations"
    refused = await world.call(Role.OWNER, "POST", path, {**BODY, "seed": 0})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
    theirs = await world.gateway.generate(world.ours.key, **{**BODY, "seed": 0})
    assert refused.json()["message"] == theirs.json()["message"]


async def test_names_are_told_of_what_is_seen(world: Organisation) -> None:
    ids = [world.ours.id, world.ours.user_id, world.ours.key_id, world.theirs.id, world.theirs.user_id, "user_none", ""]
    everything = await world.data(Role.VIEWER, "/names", ids=",".join(ids))
    assert {each["name"] for each in everything} == {"Ours", "Ours user", "Ours key", "Theirs", "Theirs user"}
    ours = await world.data(Role.TEAM_ADMIN, "/names", ids=",".join(ids))
    assert {each["name"] for each in ours} == {"Ours", "Ours user", "Ours key"}
    await world.gateway.admin("DELETE", f"/users/{world.ours.user_id}")
    [gone] = await world.data(Role.VIEWER, "/names", ids=world.ours.user_id)
    assert gone["name"] == "Ours user"
    many = await world.call(Role.VIEWER, "GET", "/names", ids=",".join(["user_x"] * 501))
    assert many.status_code == 400
