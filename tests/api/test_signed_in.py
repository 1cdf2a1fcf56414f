"""Calls that were let in elsewhere in this process: the identity comes with the scope, and only so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api.dependencies import SIGNED_IN
from gateway.app import create_app
from gateway.domain.administrator import OWNER, Administrator, Role
from gateway.domain.caller import Caller
from tests.support.administrators import Organisation, organisation


def let_in(world: Organisation, identity: Any) -> httpx.AsyncClient:
    """A client in the process, whose calls carry this identity."""
    resources = world.gateway.resources
    app: ASGIApp = create_app(resources.settings, resources=resources)

    async def signed(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, SIGNED_IN: identity}, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(signed), base_url="http://console")


async def test_an_administrator_of_the_scope_needs_no_key_and_keeps_to_its_role(tmp_path: Path) -> None:
    async with organisation(tmp_path) as world:
        viewer = Administrator(id="adm_1", name="Vera", role=Role.VIEWER)
        async with let_in(world, viewer) as http:
            assert (await http.get("/admin/v1/me")).json()["id"] == "adm_1"
            assert (await http.post("/admin/v1/teams", json={"name": "x"})).status_code == 403
            assert (await http.get("/v1/usage")).status_code == 401
        async with let_in(world, OWNER) as http:
            assert (await http.post("/admin/v1/teams", json={"name": "x"})).status_code == 201


async def test_a_caller_of_the_scope_is_that_caller_and_no_administrator(tmp_path: Path) -> None:
    async with organisation(tmp_path) as world:
        caller: Caller = await world.gateway.resources.callers.authenticate(world.ours.key)
        async with let_in(world, caller) as http:
            usage = (await http.get("/v1/usage")).json()
            assert (usage["key_id"], usage["key"]["generations"]) == (world.ours.key_id, 1)
            assert (await http.get("/admin/v1/me")).status_code == 401


async def test_any_other_thing_in_the_scope_is_nobody(tmp_path: Path) -> None:
    async with organisation(tmp_path) as world:
        for thing in ("admin", True, {"role": "owner"}, Administrator):
            async with let_in(world, thing) as http:
                assert (await http.get("/admin/v1/me")).status_code == 401
                assert (await http.get("/v1/usage")).status_code == 401
