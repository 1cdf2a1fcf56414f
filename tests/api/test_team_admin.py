"""What somebody who administers one team sees and does: the other team is not there."""

from __future__ import annotations

from typing import Any

from gateway.domain.administrator import Role
from tests.support.administrators import Organisation

ME = Role.TEAM_ADMIN
A_LIMIT = [{"metric": "images", "window": "day", "amount": "5"}]


async def status(world: Organisation, method: str, path: str, json: Any = None, **params: Any) -> int:
    return (await world.call(ME, method, path, json, **params)).status_code


async def test_lists_show_its_own_team(world: Organisation) -> None:
    ours = world.ours
    assert [team["id"] for team in await world.data(ME, "/teams")] == [ours.id]
    assert [user["id"] for user in await world.data(ME, "/users")] == [ours.user_id]
    assert [key["id"] for key in await world.data(ME, "/keys")] == [ours.key_id]
    assert [row["id"] for row in await world.data(ME, "/generations")] == [ours.bought["id"]]
    assert {row["team_id"] for row in await world.data(ME, "/requests")} == {ours.id}
    usage = await world.data(ME, "/usage", group_by="team,user")
    assert [row["group"] for row in usage["data"]] == [{"team": ours.id, "user": ours.user_id}]
    assert usage["total"]["generations"] == 1
    assert len(await world.data(Role.VIEWER, "/generations")) == 2


async def test_filters_reach_no_further_than_its_team(world: Organisation) -> None:
    theirs = world.theirs
    for path in ("/users", "/keys", "/requests", "/generations", "/usage"):
        assert await status(world, "GET", path, team_id=theirs.id) == 403
    for path, field, value in (
        ("/keys", "user_id", theirs.user_id),
        ("/requests", "user_id", theirs.user_id),
        ("/requests", "key_id", theirs.key_id),
        ("/generations", "user_id", theirs.user_id),
        ("/users", "q", "Theirs"),
        ("/teams", "q", theirs.id),
        ("/audit", "object_id", theirs.user_id),
    ):
        assert await world.data(ME, path, **{field: value}) == []
    for field, value in (("user_id", theirs.user_id), ("key_id", theirs.key_id)):
        assert (await world.data(ME, "/usage", **{field: value}))["total"]["requests"] == 0


async def test_what_another_team_has_does_not_exist(world: Organisation) -> None:
    theirs = world.theirs
    team, user, key = f"/teams/{theirs.id}", f"/users/{theirs.user_id}", f"/keys/{theirs.key_id}"
    for path in (team, user, key, f"/generations/{theirs.bought['id']}"):
        assert await status(world, "GET", path) == 404
    for path in (team, user, key):
        assert await status(world, "GET", f"{path}/limits") == 404
    for path in (user, key):
        assert await status(world, "PUT", f"{path}/limits", A_LIMIT) == 404
        assert await status(world, "PATCH", path, {"name": "x"}) == 404
        assert await status(world, "DELETE", path) == 404
    assert await status(world, "POST", f"{key}/rotate") == 404
    assert await status(world, "POST", "/keys", {"user_id": theirs.user_id}) == 400
    assert await status(world, "POST", "/cache/purge", {"user_id": theirs.user_id}) == 404
    seen = await world.data(Role.OWNER, f"/users/{theirs.user_id}")
    assert (seen["name"], seen["team_id"]) == ("Theirs user", theirs.id)
    assert (await world.gateway.generate(theirs.key, seed=2, prompt="Of Theirs")).headers["darkroom-cost-usd"] == "0"


async def test_pictures_limits_and_tags_of_another_team_do_not_exist_either(world: Organisation) -> None:
    theirs = world.theirs
    receipt = f"/generations/{theirs.bought['id']}/receipt"
    [image] = (await world.data(Role.VIEWER, receipt))["images"]
    for path in (receipt, f"/images/{image['id']}/thumbnail"):
        assert (await world.call(Role.VIEWER, "GET", path)).status_code == 200
        assert await status(world, "GET", path) == 404
    pictures = await world.data(ME, "/pictures")
    assert [row["generation_id"] for row in pictures] == [world.ours.bought["id"]]
    for field, value in (("user_id", theirs.user_id), ("key_id", theirs.key_id), ("q", "Theirs")):
        assert await world.data(ME, "/pictures", **{field: value}) == []
    assert await status(world, "GET", "/pictures", team_id=theirs.id) == 403
    assert (await world.call(Role.OWNER, "PUT", f"/users/{theirs.user_id}/limits", A_LIMIT)).status_code == 200
    assert theirs.user_id in {line["scope_id"] for line in await world.data(Role.VIEWER, "/limits")}
    assert theirs.user_id not in {line["scope_id"] for line in await world.data(ME, "/limits")}
    for path in (f"/teams/{theirs.id}", f"/users/{theirs.user_id}", f"/keys/{theirs.key_id}"):
        assert await status(world, "GET", f"{path}/limits/usage") == 404
    await world.gateway.generate(theirs.key, seed=9, headers={"Darkroom-Tags": "app=secret"})
    assert [tag["tag"] for tag in await world.data(Role.VIEWER, "/tags")] == ["app"]
    assert await world.data(ME, "/tags") == []


async def test_it_spends_as_a_key_of_its_team_alone(world: Organisation) -> None:
    body = {"model": "flux-pro", "prompt": "x", "seed": 77}
    for call in ("quote", "generations"):
        assert await status(world, "POST", f"/keys/{world.theirs.key_id}/images/{call}", body) == 404
        assert await status(world, "POST", f"/keys/{world.ours.key_id}/images/{call}", body) == 200


async def test_it_manages_its_users_and_keys(world: Organisation) -> None:
    ours = world.ours
    created = await world.call(ME, "POST", "/users", {"name": "New"})
    assert created.json()["team_id"] == ours.id
    path = f"/users/{created.json()['id']}"
    key = (await world.call(ME, "POST", "/keys", {"user_id": created.json()["id"]})).json()
    assert await status(world, "PATCH", f"/keys/{key['id']}", {"disabled": True}) == 200
    assert await status(world, "PUT", f"{path}/limits", A_LIMIT) == 200
    assert await status(world, "PUT", f"/keys/{ours.key_id}/limits", A_LIMIT) == 200
    assert await status(world, "PATCH", path, {"name": "Renamed", "team_id": ours.id}) == 200
    assert await status(world, "DELETE", path) == 204
    assert (await world.call(Role.OWNER, "GET", f"/keys/{key['id']}")).status_code == 404


async def test_nobody_is_moved_in_or_out_by_it(world: Organisation) -> None:
    ours, theirs = world.ours, world.theirs
    for elsewhere in (None, theirs.id, "team_none"):
        assert await status(world, "PATCH", f"/users/{ours.user_id}", {"team_id": elsewhere}) == 403
    assert await status(world, "POST", "/users", {"name": "x", "team_id": theirs.id}) == 400
    assert await status(world, "PATCH", f"/users/{theirs.user_id}", {"team_id": ours.id}) == 404
    assert (await world.data(Role.OWNER, f"/users/{ours.user_id}"))["team_id"] == ours.id


async def test_its_team_s_own_budget_is_seen_and_not_changed(world: Organisation) -> None:
    path = f"/teams/{world.ours.id}/limits"
    assert (await world.call(Role.OPERATOR, "PUT", path, A_LIMIT)).status_code == 200
    assert (await world.data(ME, path))[0]["amount"] == "5"
    assert await status(world, "PUT", path, []) == 403
    assert await status(world, "PATCH", f"/teams/{world.ours.id}", {"name": "x"}) == 403
    assert len(await world.data(ME, path)) == 1


async def test_it_purges_what_its_team_bought(world: Organisation) -> None:
    async def purged(**chosen: str) -> int:
        response = await world.call(ME, "POST", "/cache/purge", chosen)
        assert response.status_code == 200, response.text
        count: int = response.json()["purged"]
        return count

    assert await status(world, "POST", "/cache/purge", {"before": "2100-01-01"}) == 403
    assert await status(world, "POST", "/cache/purge", {"model": "flux-pro"}) == 403
    assert await purged(fingerprint=world.theirs.bought["fingerprint"]) == 0
    assert await purged(fingerprint=world.ours.bought["fingerprint"]) == 1
    assert await purged(user_id=world.ours.user_id) == 0
    assert (await world.data(Role.OWNER, "/cache"))["entries"] == 1


async def test_its_audit_log_is_about_its_team_and_itself(world: Organisation) -> None:
    ours, theirs = world.ours, world.theirs
    await world.call(ME, "PATCH", f"/users/{ours.user_id}", {"name": "By me"})
    await world.call(ME, "POST", "/cache/purge", {"user_id": ours.user_id})
    events = await world.data(ME, "/audit")
    actor = f"The team-admin ({world.ids[ME]})"
    assert {event["object_id"] for event in events} == {ours.id, ours.user_id, ours.key_id, "cache"}
    mine = [event["action"] for event in await world.data(ME, "/audit", actor=world.ids[ME])]
    assert mine == ["cache.purge", "user.update"]
    assert [event["action"] for event in await world.data(Role.VIEWER, "/audit", actor=actor)] == mine
    assert theirs.user_id in {event["object_id"] for event in await world.data(Role.VIEWER, "/audit")}
    assert {event["action"] for event in await world.data(ME, "/audit", action="key.create")} == {"key.create"}


async def test_the_admin_of_a_deleted_team_is_let_in_no_more(world: Organisation) -> None:
    assert (await world.call(Role.OWNER, "DELETE", f"/teams/{world.ours.id}")).status_code == 204
    assert await status(world, "GET", "/me") == 403
