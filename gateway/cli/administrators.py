"""`darkroom admin`: who else administers, over the admin API."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.client import admin_client, given, in_path
from gateway.cli.output import AsJson, Limit, show_items, show_one

admin = typer.Typer(no_args_is_help=True, help="Administrators, and what they may do.")

Role = Annotated[str, typer.Option("--role", help="owner, operator, viewer or team-admin.")]
Team = Annotated[str | None, typer.Option("--team", metavar="TEAM_ID", help="The one team of a team-admin.")]
Expires = Annotated[
    str | None, typer.Option("--expires-at", metavar="TIME", help="Like 2026-11-22T20:00:00Z; '' for never.")
]
_PATH = "/admin/v1/administrators"


@admin.command("create")
def create(
    ctx: typer.Context,
    name: str,
    *,
    role: Role,
    team: Team = None,
    expires_at: Expires = None,
    as_json: AsJson = False,
) -> None:
    """Create an administrator. Its key (for DARKROOM_ADMIN_KEY) is shown now and never again."""
    body = given({"name": name, "role": role, "team_id": team, "expires_at": expires_at or None})
    show_one(admin_client(ctx).send("POST", _PATH, body), as_json=as_json)


@admin.command("list")
def list_administrators(
    ctx: typer.Context,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List administrators, newest first."""
    found = admin_client(ctx).list(_PATH, limit=limit)
    columns = ("id", "name", "role", "team_id", "prefix", "disabled", "expires_at", "created_at")
    show_items(found, columns, as_json=as_json)


@admin.command("get")
def get(ctx: typer.Context, id: str, as_json: AsJson = False) -> None:
    """Show one."""
    show_one(admin_client(ctx).get(f"{_PATH}/{in_path(id)}"), as_json=as_json)


@admin.command("me")
def me(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show whose key this is, and what it may do."""
    show_one(admin_client(ctx).get("/admin/v1/me"), as_json=as_json)


@admin.command("update")
def update(
    ctx: typer.Context,
    id: str,
    *,
    name: Annotated[str | None, typer.Option("--name")] = None,
    role: Annotated[str | None, typer.Option("--role", help="owner, operator, viewer or team-admin.")] = None,
    team: Team = None,
    expires_at: Expires = None,
    disabled: Annotated[bool | None, typer.Option("--disable/--enable", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given."""
    body = given({"name": name, "role": role, "team_id": team, "expires_at": expires_at, "disabled": disabled})
    if expires_at == "":
        body["expires_at"] = None
    show_one(admin_client(ctx).send("PATCH", f"{_PATH}/{in_path(id)}", body), as_json=as_json)


@admin.command("rotate")
def rotate(ctx: typer.Context, id: str, as_json: AsJson = False) -> None:
    """Replace its key: the old one stops at once. The new one is shown now and never again."""
    show_one(admin_client(ctx).send("POST", f"{_PATH}/{in_path(id)}/rotate"), as_json=as_json)


@admin.command("delete")
def delete(ctx: typer.Context, id: str) -> None:
    """Delete one; what it did stays in the audit log."""
    admin_client(ctx).send("DELETE", f"{_PATH}/{in_path(id)}")
    typer.echo(f"Deleted {id}.")
