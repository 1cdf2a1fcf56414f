"""Administrators by the command line, and the searches and filters that they look things up with."""

from __future__ import annotations

from pathlib import Path

from gateway.domain.administrator import Role
from tests.support.administrators import organisation
from tests.support.shell import Shell


async def test_an_owner_makes_administrators_and_ends_them(tmp_path: Path) -> None:
    async with organisation(tmp_path / "data") as world:
        shell = Shell(world.gateway, tmp_path)
        made = await shell.json("admin", "create", "Tess", "--role", "team-admin", "--team", world.ours.id)
        tess = Shell(world.gateway, tmp_path)
        tess.env["DARKROOM_ADMIN_KEY"] = made["key"]
        assert "Tess" in await tess.run("admin", "me")
        assert [user["id"] for user in await tess.json("user", "list")] == [world.ours.user_id]
        assert "team-admin, which may not change administrators" in await tess.run("admin", "list", status=1)
        rotated = await shell.json("admin", "rotate", made["id"])
        assert "replaced" in await tess.run("user", "list", status=1)
        tess.env["DARKROOM_ADMIN_KEY"] = rotated["key"]
        await tess.run("user", "create", "Somebody")
        updated = await shell.json("admin", "update", made["id"], "--disable", "--expires-at", "2099-01-01")
        assert (updated["disabled"], updated["expires_at"]) == (True, "2099-01-01T00:00:00Z")
        assert "is disabled" in await tess.run("user", "list", status=1)
        assert (await shell.json("admin", "update", made["id"], "--expires-at", ""))["expires_at"] is None
        assert made["id"] in {each["id"] for each in await shell.json("admin", "list")}
        assert made["id"] in await shell.run("admin", "delete", made["id"])
        assert "darkroom admin list" in await shell.run("admin", "get", made["id"], status=1)


async def test_accounts_are_found_by_a_part_of_what_they_are_called(tmp_path: Path) -> None:
    async with organisation(tmp_path) as world:
        ada = await world.gateway.admin("POST", "/users", {"name": "Ada 100%", "email": "Ada@example.com"})

        async def found(path: str, q: str) -> list[str]:
            return [row["name"] for row in await world.data(Role.OWNER, path, q=q)]

        assert await found("/users", "OURS") == ["Ours user"]
        assert await found("/users", "ada@EXAMPLE") == await found("/users", ada["id"][3:]) == ["Ada 100%"]
        assert await found("/users", "0%") == ["Ada 100%"]
        assert await found("/users", "%u%") == []
        assert await found("/teams", "hei") == ["Theirs"]
        assert await found("/keys", "theirs k") == ["Theirs key"]
        assert await found("/administrators", "the view") == ["The viewer"]
        first = (await world.call(Role.OWNER, "GET", "/users", q="s user", limit=1)).json()
        rest = await world.data(Role.OWNER, "/users", q="s user", cursor=first["next_cursor"])
        assert {row["name"] for row in [*first["data"], *rest]} == {"Ours user", "Theirs user"}


async def test_keys_are_found_by_prefix_and_by_team(tmp_path: Path) -> None:
    async with organisation(tmp_path) as world:
        ours, theirs = world.ours, world.theirs
        by_prefix = await world.data(Role.VIEWER, "/keys", q=ours.key[:20])
        assert [key["id"] for key in by_prefix] == [ours.key_id]
        for path in ("/keys", "/users", "/requests", "/generations"):
            rows = await world.data(Role.VIEWER, path, team_id=theirs.id)
            assert len(rows) == 1
            assert await world.data(Role.VIEWER, path, team_id="\0") == []


async def test_a_report_is_confined_to_what_is_asked_for(tmp_path: Path) -> None:
    async with organisation(tmp_path) as world:
        ours = world.ours
        for field, value in (
            ("user_id", ours.user_id),
            ("team_id", ours.id),
            ("key_id", ours.key_id),
        ):
            report = await world.data(Role.VIEWER, "/usage", **{field: value})
            assert (report["total"]["generations"], report["total"]["cost_usd"]) == (1, "0.065")
            assert (await world.data(Role.VIEWER, "/usage", **{field: "none"}))["total"]["requests"] == 0
        assert (await world.data(Role.VIEWER, "/usage", model="flux-pro", provider="aimlapi"))["total"]["images"] == 2
        assert (await world.data(Role.VIEWER, "/usage", model="other"))["total"]["images"] == 0
        refused = await world.call(Role.VIEWER, "GET", "/usage", model="a\nb")
        assert refused.status_code == 400
