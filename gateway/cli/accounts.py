"""`darkroom team | user | key`: over the admin API."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.client import admin_client, fail, given, in_path
from gateway.cli.output import AsJson, Limit, show_items, show_one

team = typer.Typer(no_args_is_help=True, help="Teams.")
user = typer.Typer(no_args_is_help=True, help="Users.")
key = typer.Typer(no_args_is_help=True, help="Keys of callers.")

Name = Annotated[str | None, typer.Option("--name")]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="NAME=VALUE", help="A label; may be repeated. An update replaces all labels."),
]
Email = Annotated[str | None, typer.Option("--email", help="'' removes it.")]
Team = Annotated[str | None, typer.Option("--team", metavar="TEAM_ID", help="'' takes the user out of its team.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="A model it may use; may be repeated. Without: every model."),
]
Expires = Annotated[str | None, typer.Option("--expires-at", metavar="TIME", help="Like 2026-11-22T20:00:00Z.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_ERASURE_TIMEOUT_S = 600


def _get_command(app: typer.Typer, kind: str) -> None:
    @app.command("get")
    def get(ctx: typer.Context, id: str, as_json: AsJson = False) -> None:
        """Show one."""
        show_one(admin_client(ctx).get(f"/admin/v1/{kind}s/{in_path(id)}"), as_json=as_json)


def _delete_command(app: typer.Typer, kind: str) -> None:
    @app.command("delete")
    def delete(ctx: typer.Context, id: str) -> None:
        """Delete one; its history stays."""
        admin_client(ctx).send("DELETE", f"/admin/v1/{kind}s/{in_path(id)}")
        typer.echo(f"Deleted {id}.")


for _app, _kind in ((team, "team"), (user, "user"), (key, "key")):
    _get_command(_app, _kind)
for _app, _kind in ((user, "user"), (key, "key")):
    _delete_command(_app, _kind)


@team.command("create")
def create_team(ctx: typer.Context, name: str, label: Labels = None, as_json: AsJson = False) -> None:
    """Create a team."""
    _send(ctx, "POST", "teams", {"name": name, "labels": _labels(label)}, as_json=as_json)


@team.command("list")
def list_teams(ctx: typer.Context, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List teams, newest first."""
    teams = admin_client(ctx).list("/admin/v1/teams", limit=limit)
    show_items(teams, ("id", "name", "labels", "created_at"), as_json=as_json)


@team.command("update")
def update_team(
    ctx: typer.Context, *, id: str, name: Name = None, label: Labels = None, as_json: AsJson = False
) -> None:
    """Change what is given."""
    _send(ctx, "PATCH", f"teams/{in_path(id)}", {"name": name, "labels": _labels(label)}, as_json=as_json)


@team.command("delete")
def delete_team(ctx: typer.Context, id: str, yes: Yes = False) -> None:
    """Delete a team; its users stay in it, and their keys are refused until they are moved."""
    client, path = admin_client(ctx), f"/admin/v1/teams/{in_path(id)}"
    if not yes:
        found = client.get(path)
        stopped = f"users in it: {found['users']}, keys of theirs that stop working: {found['usable_keys']}"
        typer.confirm(f"Delete {found['name']} ({stopped})?", abort=True, err=True)
    client.send("DELETE", path)
    typer.echo(f"Deleted {id}.")


@user.command("create")
def create_user(
    ctx: typer.Context,
    name: str,
    *,
    email: Email = None,
    team: Team = None,
    label: Labels = None,
    as_json: AsJson = False,
) -> None:
    """Create a user."""
    body = {"name": name, "email": email, "team_id": team, "labels": _labels(label)}
    _send(ctx, "POST", "users", body, as_json=as_json)


@user.command("list")
def list_users(ctx: typer.Context, team: Team = None, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List users, newest first."""
    users = admin_client(ctx).list("/admin/v1/users", limit=limit, team_id=team)
    show_items(users, ("id", "name", "email", "team_id", "labels", "created_at"), as_json=as_json)


@user.command("update")
def update_user(
    ctx: typer.Context,
    id: str,
    *,
    name: Name = None,
    email: Email = None,
    team: Team = None,
    label: Labels = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given."""
    body = given({"name": name, "email": email, "team_id": team, "labels": _labels(label)})
    for field in ("email", "team_id"):
        if body.get(field) == "":
            body[field] = None
    show_one(admin_client(ctx).send("PATCH", f"/admin/v1/users/{in_path(id)}", body), as_json=as_json)


@user.command("erase")
def erase_user(
    ctx: typer.Context,
    id: str,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Erase what a user was called, wrote and got, deleted ones too; its id, numbers and money stay."""
    if not yes:
        question = f"Erase {id} for good: its names, keys, prompts and pictures, and what the cache has of it?"
        typer.confirm(question, abort=True, err=True)
    erased = admin_client(ctx, timeout_s=_ERASURE_TIMEOUT_S).send("POST", f"/admin/v1/users/{in_path(id)}/erase")
    show_one(erased, as_json=as_json)


@key.command("create")
def create_key(
    ctx: typer.Context,
    *,
    user: Annotated[str, typer.Option("--user", metavar="USER_ID")],
    name: Name = None,
    mode: Annotated[str, typer.Option("--mode", help="live or test.")] = "live",
    expires_at: Expires = None,
    model: Models = None,
    label: Labels = None,
    as_json: AsJson = False,
) -> None:
    """Create a key. It is shown now and never again."""
    body = {"user_id": user, "name": name, "mode": mode, "expires_at": expires_at, "models": model or None}
    _send(ctx, "POST", "keys", {**body, "labels": _labels(label)}, as_json=as_json)


@key.command("list")
def list_keys(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Option("--user", metavar="USER_ID")] = None,
    mode: Annotated[str | None, typer.Option("--mode", help="live or test.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List keys, newest first."""
    keys = admin_client(ctx).list("/admin/v1/keys", limit=limit, user_id=user, mode=mode)
    columns = (
        "id",
        "prefix",
        "user_id",
        "name",
        "mode",
        "models",
        "usable",
        "unusable_because",
        "expires_at",
        "created_at",
    )
    show_items(keys, columns, as_json=as_json)


@key.command("update")
def update_key(
    ctx: typer.Context,
    id: str,
    *,
    name: Name = None,
    expires_at: Expires = None,
    model: Models = None,
    label: Labels = None,
    disabled: Annotated[bool | None, typer.Option("--disable/--enable", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given."""
    body = {"name": name, "expires_at": expires_at, "models": model or None, "disabled": disabled}
    _send(ctx, "PATCH", f"keys/{in_path(id)}", {**body, "labels": _labels(label)}, as_json=as_json)


@key.command("rotate")
def rotate_key(
    ctx: typer.Context,
    id: str,
    overlap_s: Annotated[int, typer.Option("--overlap-s", min=0, help="How long the old key works on.")] = 86_400,
    as_json: AsJson = False,
) -> None:
    """Make a new key like this one, and let this one run out. The new key is shown now and never again."""
    _send(ctx, "POST", f"keys/{in_path(id)}/rotate", {"overlap_s": overlap_s}, as_json=as_json)


def _send(ctx: typer.Context, method: str, path: str, body: dict[str, Any], *, as_json: bool) -> None:
    show_one(admin_client(ctx).send(method, f"/admin/v1/{path}", given(body)), as_json=as_json)


def _labels(pairs: list[str] | None) -> dict[str, str] | None:
    """Of NAME=VALUE."""
    labels = {}
    for pair in pairs or ():
        name, separator, value = pair.partition("=")
        if not separator or not name:
            fail(f"--label {pair}: write it like team=search.")
        labels[name] = value
    return labels or None
