"""The admin API of accounts: forms, statuses, and what is shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from gateway.api.routes import admin_accounts
from gateway.errors import DarkroomError
from gateway.services.accounts import AccountService
from gateway.services.administrators import Administrators
from gateway.storage.database import Database

ADMIN = {"Authorization": "Bearer the-admin-key"}


async def _refuse(_request: Request, exc: Exception) -> JSONResponse:
    if isinstance(exc, DarkroomError):
        return JSONResponse({"error": {"code": exc.code, "message": exc.message}}, exc.status)
    return JSONResponse({"error": {"code": "invalid_request", "message": str(exc)}}, 400)


@pytest.fixture
async def http(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """The routes alone, over the real service."""
    app = FastAPI()
    app.include_router(admin_accounts.router)
    for refused in (DarkroomError, RequestValidationError):
        app.add_exception_handler(refused, _refuse)
    accounts = AccountService(database, [b"pepper"], ["flux-pro"], notify=lambda _kind, _id: None)
    administrators = Administrators(database, [b"pepper"], owner_key="the-admin-key")
    app.state.resources = SimpleNamespace(accounts=accounts, administrators=administrators)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gw/admin/v1", headers=ADMIN) as client:
        yield client


async def create(http: httpx.AsyncClient, kind: str, **body) -> dict[str, Any]:
    response = await http.post(f"/{kind}", json=body)
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


async def test_every_route_asks_for_the_admin_key(http: httpx.AsyncClient):
    del http.headers["Authorization"]
    for method, path in (("GET", "/teams"), ("POST", "/keys"), ("GET", "/audit"), ("PUT", "/users/u/limits")):
        assert (await http.request(method, path)).status_code == 401


async def test_an_account_is_created_shown_changed_and_deleted(http: httpx.AsyncClient):
    team = await create(http, "teams", name="Search", labels={"cost-centre": "42"})
    assert team["created_at"].endswith("Z")
    user = await create(http, "users", name="Ada", email="ada@example.com", team_id=team["id"])
    patched = await http.patch(f"/users/{user['id']}", json={"email": None})
    assert patched.json() == {**user, "email": None}
    assert (await http.delete(f"/users/{user['id']}")).status_code == 204
    assert (await http.get(f"/users/{user['id']}")).status_code == 404


async def test_a_key_is_shown_once(http: httpx.AsyncClient):
    user = await create(http, "users", name="Ada")
    made = await create(http, "keys", user_id=user["id"], mode="test", expires_at="2100-01-01T00:00:00Z")
    assert made["key"].startswith(made["prefix"])
    assert made["expires_at"] == "2100-01-01T00:00:00Z"
    shown = (await http.get(f"/keys/{made['id']}")).json()
    assert shown == {name: value for name, value in made.items() if name != "key"}


async def test_a_key_is_rotated_and_disabled(http: httpx.AsyncClient):
    user = await create(http, "users", name="Ada")
    old = await create(http, "keys", user_id=user["id"])
    new = (await http.post(f"/keys/{old['id']}/rotate")).json()
    assert new["key"] != old["key"]
    assert (await http.get(f"/keys/{old['id']}")).json()["rotated_to"] == new["id"]
    disabled = (await http.patch(f"/keys/{new['id']}", json={"disabled": True})).json()
    assert disabled["disabled"]
    assert disabled["disabled_at"]


async def test_a_key_says_whether_it_works_and_if_not_why(http: httpx.AsyncClient):
    team = await create(http, "teams", name="Search")
    user = await create(http, "users", name="Ada", team_id=team["id"])
    made = await create(http, "keys", user_id=user["id"], expires_at="2100-01-01T00:00:00Z")
    assert (made["usable"], made["unusable_because"]) == (True, None)
    await http.patch(f"/keys/{made['id']}", json={"disabled": True})
    [disabled] = (await http.get("/keys")).json()["data"]
    assert (disabled["usable"], disabled["unusable_because"]) == (False, "disabled")
    await http.delete(f"/teams/{team['id']}")
    [of_deleted] = (await http.get("/keys")).json()["data"]
    assert (of_deleted["usable"], of_deleted["unusable_because"]) == (False, "team_deleted")
    assert (await http.get(f"/users/{user['id']}")).json()["team_deleted_at"] is not None
    refused = await http.post("/keys", json={"user_id": user["id"]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")


async def test_a_rotated_key_that_ran_out_says_so(http: httpx.AsyncClient):
    user = await create(http, "users", name="Ada")
    old = await create(http, "keys", user_id=user["id"])
    await http.post(f"/keys/{old['id']}/rotate", json={"overlap_s": 0})
    shown = (await http.get(f"/keys/{old['id']}")).json()
    assert (shown["usable"], shown["unusable_because"]) == (False, "expired")


async def test_a_list_is_paged(http: httpx.AsyncClient):
    made = [await create(http, "teams", name=f"team {number}") for number in range(3)]
    first = (await http.get("/teams", params={"limit": 2})).json()
    assert (first["object"], first["has_more"]) == ("list", True)
    second = (await http.get("/teams", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert (second["has_more"], second["next_cursor"]) == (False, None)
    found = {team["id"] for team in first["data"] + second["data"]}
    assert found == {team["id"] for team in made}


async def test_limits_are_a_bare_array(http: httpx.AsyncClient):
    user = await create(http, "users", name="Ada")
    path = f"/users/{user['id']}/limits"
    wanted = [
        {"metric": "concurrency", "amount": 5.0},
        {"metric": "cost_usd", "window": "month", "amount": "10.50"},
    ]
    expected = [
        {"metric": "concurrency", "window": None, "amount": "5"},
        {"metric": "cost_usd", "window": "month", "amount": "10.5"},
    ]
    assert (await http.put(path, json=wanted)).json() == expected
    assert (await http.get(path)).json() == expected
    assert (await http.put(path, json=expected)).json() == expected


async def test_a_limit_says_at_which_shares_it_is_told(http: httpx.AsyncClient):
    user = await create(http, "users", name="Ada")
    path = f"/users/{user['id']}/limits"
    wanted = [{"metric": "images", "window": "day", "amount": "5", "alert_at": [80, 100]}]
    assert (await http.put(path, json=wanted)).json() == wanted
    assert (await http.get(path)).json() == wanted
    for wrong in ([100, 80], [0], [101], [True], ["80"], [1, 2, 3, 4, 5, 6]):
        refused = await http.put(path, json=[{**wanted[0], "alert_at": wrong}])
        assert refused.status_code == 400, wrong
        assert "alert_at" in refused.text, wrong
    assert (await http.get(path)).json() == wanted


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("teams", {}),
        ("teams", {"name": ""}),
        ("teams", {"name": "a\x00b"}),
        ("teams", {"name": "a\nb"}),
        ("teams", {"name": "x" * 201}),
        ("teams", {"name": "a", "nmae": "b"}),
        ("teams", {"name": "a", "labels": {"k": 1}}),
        ("teams", {"name": "a", "labels": {"k\u0007": "v"}}),
        ("users", {"name": "a", "email": "not an address"}),
        ("users", {"name": "a", "team_id": "team_x"}),
        ("users", {"name": "a", "team_id": "\x00"}),
        ("keys", {"user_id": "user_x"}),
        ("keys", {"user_id": "user_x", "mode": "dead"}),
        ("keys", {"user_id": "user_x", "expires_at": "tomorrow"}),
        ("keys", {"user_id": "user_x", "expires_at": True}),
        ("keys", {"user_id": "user_x", "expires_at": 1e99}),
    ],
)
async def test_a_body_that_makes_no_sense_is_refused(http: httpx.AsyncClient, kind: str, body: dict[str, Any]):
    assert (await http.post(f"/{kind}", json=body)).status_code == 400


@pytest.mark.parametrize("amount", [True, None, "-1", -1, 1.5, "1e9", "ten", "1" * 40, float(10**30)])
async def test_an_amount_that_is_none_is_refused(http: httpx.AsyncClient, amount: Any):
    user = await create(http, "users", name="Ada")
    entry = {"metric": "images", "window": "day", "amount": amount}
    assert (await http.put(f"/users/{user['id']}/limits", json=[entry])).status_code == 400


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "cursor=nonsense"])
async def test_a_page_that_makes_no_sense_is_refused(http: httpx.AsyncClient, query: str):
    assert (await http.get(f"/teams?{query}")).status_code == 400


async def test_impossible_ids_are_not_found(http: httpx.AsyncClient):
    for path in ("/teams/%00", "/users/%F0%9F%96%BC/limits", "/keys/x"):
        assert (await http.get(path)).status_code == 404
    assert (await http.get("/users?team_id=%00")).json()["data"] == []


async def test_the_audit_log_tells_what_was_done_and_no_secret(http: httpx.AsyncClient):
    user = await create(http, "users", name="Ada")
    key = await create(http, "keys", user_id=user["id"])
    log = await http.get("/audit")
    assert {event["action"] for event in log.json()["data"]} == {"user.create", "key.create"}
    assert key["key"] not in log.text
