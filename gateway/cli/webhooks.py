"""`darkroom webhook`: whom to tell when a limit fills up."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.client import admin_client, fail, given, in_path
from gateway.cli.output import AsJson, Limit, show_items, show_one

webhook = typer.Typer(no_args_is_help=True, help="Whom to tell when a limit fills up.")

_PATH = "/admin/v1/webhooks"
_LOGGED = ("id", "webhook_id", "alert_id", "status", "attempts", "last_status", "last_error", "created_at", "next_at")


@webhook.command("create")
def create(ctx: typer.Context, name: str, url: str, as_json: AsJson = False) -> None:
    """Tell an address of alerts from now on. Shows the secret that signs them, this once."""
    show_one(admin_client(ctx).send("POST", _PATH, {"name": name, "url": url}), as_json=as_json)


@webhook.command("list")
def list_webhooks(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List them, newest first."""
    found = admin_client(ctx).get(_PATH)["data"]
    show_items(found, ("id", "name", "url", "disabled", "created_at"), as_json=as_json)


@webhook.command("get")
def get(ctx: typer.Context, id: str, as_json: AsJson = False) -> None:
    """Show one."""
    show_one(admin_client(ctx).get(f"{_PATH}/{in_path(id)}"), as_json=as_json)


@webhook.command("update")
def update(
    ctx: typer.Context,
    id: str,
    *,
    name: Annotated[str | None, typer.Option("--name")] = None,
    url: Annotated[str | None, typer.Option("--url")] = None,
    disabled: Annotated[bool | None, typer.Option("--disable/--enable", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given."""
    body = given({"name": name, "url": url, "disabled": disabled})
    if not body:
        fail("Say what to change: --name, --url, --disable or --enable.")
    show_one(admin_client(ctx).send("PATCH", f"{_PATH}/{in_path(id)}", body), as_json=as_json)


@webhook.command("delete")
def delete(ctx: typer.Context, id: str) -> None:
    """Delete one; the log of its deliveries stays."""
    admin_client(ctx).send("DELETE", f"{_PATH}/{in_path(id)}")
    typer.echo(f"Deleted {id}.")


@webhook.command("rotate")
def rotate(ctx: typer.Context, id: str, as_json: AsJson = False) -> None:
    """Give it a new secret, shown this once; the old one signs nothing from now on."""
    show_one(admin_client(ctx).send("POST", f"{_PATH}/{in_path(id)}/rotate"), as_json=as_json)


@webhook.command("test")
def send_test(ctx: typer.Context, id: str, as_json: AsJson = False) -> None:
    """Send it a message that is no alert. Exit status 1 when it is not taken."""
    _send(ctx, f"{_PATH}/{in_path(id)}/test", as_json=as_json)


@webhook.command("deliveries")
def deliveries(
    ctx: typer.Context,
    id: Annotated[str | None, typer.Argument(metavar="[ID]", show_default=False)] = None,
    *,
    status: Annotated[str | None, typer.Option("--status", help="pending, delivered or failed.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List what was sent to one, or to all, or waits to be."""
    found = admin_client(ctx).list("/admin/v1/deliveries", limit=limit, webhook_id=id, status=status)
    show_items(found, _LOGGED, as_json=as_json)


@webhook.command("retry")
def retry(
    ctx: typer.Context, id: Annotated[str, typer.Argument(metavar="DELIVERY_ID")], as_json: AsJson = False
) -> None:
    """Send one of the log again now. Exit status 1 when it is not taken: then its tries begin anew."""
    _send(ctx, f"/admin/v1/deliveries/{in_path(id)}/retry", as_json=as_json)


def _send(ctx: typer.Context, path: str, *, as_json: bool) -> None:
    done = admin_client(ctx).send("POST", path)
    show_one(done, as_json=as_json)
    if done["status"] != "delivered":
        raise typer.Exit(1)
