"""Who may do what at the admin API: every role at every route, against a table written out here."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from gateway.app import ADMIN_ROUTERS
from gateway.domain.administrator import Permission, Role
from tests.support.administrators import Organisation, organisation

EVERYBODY = "owner operator viewer team-admin"
NO_SINGLE_TEAM = "owner operator viewer"
ACCOUNTS = "owner operator team-admin"
OPERATORS = "owner operator"
OWNERS = "owner"

ALLOWED = {
    "GET /me": EVERYBODY,
    "GET /administrators": OWNERS,
    "POST /administrators": OWNERS,
    "GET /administrators/{administrator_id}": OWNERS,
    "PATCH /administrators/{administrator_id}": OWNERS,
    "DELETE /administrators/{administrator_id}": OWNERS,
    "POST /administrators/{administrator_id}/rotate": OWNERS,
    "GET /teams": EVERYBODY,
    "POST /teams": OPERATORS,
    "GET /teams/{team_id}": EVERYBODY,
    "PATCH /teams/{team_id}": OPERATORS,
    "DELETE /teams/{team_id}": OPERATORS,
    "GET /users": EVERYBODY,
    "POST /users": ACCOUNTS,
    "GET /users/{user_id}": EVERYBODY,
    "PATCH /users/{user_id}": ACCOUNTS,
    "DELETE /users/{user_id}": ACCOUNTS,
    "POST /users/{user_id}/erase": OPERATORS,
    "GET /keys": EVERYBODY,
    "POST /keys": ACCOUNTS,
    "GET /keys/{key_id}": EVERYBODY,
    "PATCH /keys/{key_id}": ACCOUNTS,
    "DELETE /keys/{key_id}": ACCOUNTS,
    "POST /keys/{key_id}/rotate": ACCOUNTS,
    "GET /keys/{key_id}/models": ACCOUNTS,
    "POST /keys/{key_id}/images/quote": ACCOUNTS,
    "POST /keys/{key_id}/images/generations": ACCOUNTS,
    "GET /names": EVERYBODY,
    "GET /webhooks": NO_SINGLE_TEAM,
    "POST /webhooks": OPERATORS,
    "GET /webhooks/{webhook_id}": NO_SINGLE_TEAM,
    "PATCH /webhooks/{webhook_id}": OPERATORS,
    "DELETE /webhooks/{webhook_id}": OPERATORS,
    "POST /webhooks/{webhook_id}/rotate": OPERATORS,
    "POST /webhooks/{webhook_id}/test": OPERATORS,
    "GET /alerts": EVERYBODY,
    "GET /deliveries": NO_SINGLE_TEAM,
    "POST /deliveries/{delivery_id}/retry": OPERATORS,
    "GET /tags": EVERYBODY,
    "GET /limits": EVERYBODY,
    "GET /{scopes}/{scope_id}/limits/usage": EVERYBODY,
    "GET /{scopes}/{scope_id}/limits": EVERYBODY,
    "PUT /{scopes}/{scope_id}/limits": ACCOUNTS,  # of a team: operators alone
    "GET /audit": EVERYBODY,
    "POST /apply": OPERATORS,
    "GET /usage": EVERYBODY,
    "GET /requests": EVERYBODY,
    "GET /generations": EVERYBODY,
    "GET /generations/{generation_id}": EVERYBODY,
    "GET /generations/{generation_id}/receipt": EVERYBODY,
    "GET /pictures": EVERYBODY,
    "GET /images/{image_id}/thumbnail": EVERYBODY,
    "POST /generations/{generation_id}/settle": OPERATORS,
    "POST /generations/{generation_id}/adjust": OPERATORS,
    "POST /reconcile": OPERATORS,
    "POST /statements": OPERATORS,
    "GET /statements": EVERYBODY,
    "GET /statements/{month}": EVERYBODY,
    "GET /cache": NO_SINGLE_TEAM,
    "POST /cache/purge": ACCOUNTS,
    "GET /providers": NO_SINGLE_TEAM,
    "POST /providers/reencrypt": OPERATORS,
    "GET /providers/{name}/keys": NO_SINGLE_TEAM,
    "POST /providers/{name}/keys": OPERATORS,
    "GET /providers/{name}/keys/{key_id}": NO_SINGLE_TEAM,
    "PATCH /providers/{name}/keys/{key_id}": OPERATORS,
    "DELETE /providers/{name}/keys/{key_id}": OPERATORS,
}


def routes() -> Iterator[APIRoute]:
    for router in ADMIN_ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            yield route


def named(route: APIRoute) -> list[str]:
    return [f"{method} {route.path.removeprefix('/admin/v1')}" for method in sorted(route.methods or ())]


def permissions(dependant: Dependant) -> set[Permission]:
    stated = {Permission[name] for name in dependant.own_oauth_scopes or ()}
    return stated.union(*map(permissions, dependant.dependencies))


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Organisation]:
    async with organisation(tmp_path_factory.mktemp("roles")) as made:
        yield made


def test_the_table_has_every_route() -> None:
    assert sorted(name for route in routes() for name in named(route)) == sorted(ALLOWED)


def test_every_route_states_what_it_takes() -> None:
    for route in routes():
        stated = permissions(route.dependant)
        assert stated, f"{named(route)} states no permission"
        if route.methods != {"GET"}:
            assert stated - {Permission.SEE, Permission.SEE_ALL}, f"{named(route)} changes things, and asks for nothing"


def test_viewers_can_only_look() -> None:
    assert {name.split()[0] for name, roles in ALLOWED.items() if "viewer" in roles} == {"GET"}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", ALLOWED)
async def test_a_role_does_what_the_table_says(world: Organisation, name: str, role: Role) -> None:
    method, path = name.split()
    path = re.sub(r"\{\w+\}", "none", path.replace("{scopes}", "users"))
    response = await world.call(role, method, path, None if method in {"GET", "DELETE"} else {})
    if role in ALLOWED[name].split():
        assert response.status_code not in {401, 403, 500}, response.text
    else:
        assert response.status_code == 403
        error = response.json()["error"]
        assert error["code"] == "forbidden"
        assert f"The {role} is {role}, which may not" in error["message"]


@pytest.mark.parametrize("name", ALLOWED)
async def test_nothing_is_done_without_a_key_or_with_a_callers(world: Organisation, name: str) -> None:
    method, path = name.split()
    url = f"{world.gateway.base_url}/admin/v1" + re.sub(r"\{\w+\}", "none", path.replace("{scopes}", "users"))
    claimed = {"darkroom.signed_in": "admin", "darkroom-signed-in": "admin", "x-admin": "1"}
    for headers in ({}, {"Authorization": f"Bearer {world.ours.key}"}, claimed):
        response = await world.gateway.http.request(method, url, headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_a_role_is_told_what_it_may_do(world: Organisation) -> None:
    for role in Role:
        me = await world.data(role, "/me")
        assert me["object"] == "administrator"
        assert (me["id"], me["role"], me["name"]) == (world.ids[role], role, f"The {role}")
        assert me["team_id"] == (world.ours.id if role is Role.TEAM_ADMIN else None)
        assert ("manage_accounts" in me["permissions"]) == (role in ACCOUNTS.split())
        assert ("manage_administrators" in me["permissions"]) == (role == "owner")
    owner = await world.gateway.admin("GET", "/me")
    assert (owner["id"], owner["name"], owner["role"]) == (None, "admin", "owner")


async def test_only_who_may_change_a_webhook_sees_its_whole_address_and_the_audit_log_never(
    world: Organisation,
) -> None:
    """The address of a chat's hook is all that it takes to post there."""
    url, host = "https://hooks.example.com/services/secret", "https://hooks.example.com/..."
    made = await world.gateway.admin("POST", "/webhooks", {"name": "chat", "url": url})
    await world.gateway.admin("PATCH", f"/webhooks/{made['id']}", {"url": f"{url}/2"})
    for role in map(Role, NO_SINGLE_TEAM.split()):
        shown = f"{url}/2" if role in OPERATORS.split() else host
        assert (await world.data(role, f"/webhooks/{made['id']}"))["url"] == shown, role
        assert [hook["url"] for hook in await world.data(role, "/webhooks")] == [shown], role
    events = await world.data(Role.VIEWER, "/audit", object_id=made["id"])
    assert {event["action"]: event["detail"].get("url") for event in events} == {
        "webhook.create": host,
        "webhook.update": host,
    }
