"""`darkroom limit`: what a team, a user or a key may spend and ask for."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.client import Client, admin_client, fail, in_path
from gateway.cli.output import AsJson, show_items

limit = typer.Typer(no_args_is_help=True, help="Limits of a team, a user or a key.")

TeamId = Annotated[str | None, typer.Option("--team", metavar="TEAM_ID")]
UserId = Annotated[str | None, typer.Option("--user", metavar="USER_ID")]
KeyId = Annotated[str | None, typer.Option("--key", metavar="KEY_ID")]
Metric = Annotated[str, typer.Argument(help="requests, images, megapixels, cost_usd or concurrency.")]
Window = Annotated[str | None, typer.Argument(help="minute, hour, day, month or total; none for concurrency.")]


@limit.command("list")
def list_limits(
    ctx: typer.Context,
    *,
    team: TeamId = None,
    user: UserId = None,
    key: KeyId = None,
    as_json: AsJson = False,
) -> None:
    """List the limits set at a team, a user or a key."""
    _show(admin_client(ctx).get(_path(team, user, key)), as_json=as_json)


@limit.command("set")
def set_limit(
    ctx: typer.Context,
    metric: Metric,
    window: Annotated[str, typer.Argument(metavar="WINDOW", help="Left out for concurrency.")],
    amount: Annotated[str | None, typer.Argument(metavar="AMOUNT", show_default=False)] = None,
    *,
    alert_at: Annotated[
        list[int] | None,
        typer.Option("--alert-at", metavar="PERCENT", help="Tell webhooks when so much is used. May be repeated."),
    ] = None,
    team: TeamId = None,
    user: UserId = None,
    key: KeyId = None,
    as_json: AsJson = False,
) -> None:
    """Set one limit, as in `darkroom limit set --user USER_ID cost_usd month 100`."""
    given_window, given_amount = (None, window) if amount is None else (window, amount)
    client, path = admin_client(ctx), _path(team, user, key)
    entry: dict[str, Any] = {"metric": metric, "window": given_window, "amount": given_amount}
    if alert_at:
        entry["alert_at"] = sorted(alert_at)
    _put(client, path, [*_others(client, path, metric, given_window), entry], as_json=as_json)


@limit.command("unset")
def unset_limit(
    ctx: typer.Context,
    metric: Metric,
    window: Window = None,
    *,
    team: TeamId = None,
    user: UserId = None,
    key: KeyId = None,
    as_json: AsJson = False,
) -> None:
    """Remove one limit."""
    client, path = admin_client(ctx), _path(team, user, key)
    _put(client, path, _others(client, path, metric, window), as_json=as_json)


def _path(team: str | None, user: str | None, key: str | None) -> str:
    given = [(kind, value) for kind, value in (("teams", team), ("users", user), ("keys", key)) if value]
    if len(given) != 1:
        fail("Say whose limits: one of --team TEAM_ID, --user USER_ID, --key KEY_ID.")
    kind, scope_id = given[0]
    return f"/admin/v1/{kind}/{in_path(scope_id)}/limits"


def _others(client: Client, path: str, metric: str, window: str | None) -> list[dict[str, Any]]:
    return [entry for entry in client.get(path) if (entry["metric"], entry["window"]) != (metric, window)]


def _put(client: Client, path: str, entries: list[dict[str, Any]], *, as_json: bool) -> None:
    _show(client.send("PUT", path, entries), as_json=as_json)


def _show(entries: list[dict[str, Any]], *, as_json: bool) -> None:
    show_items(entries, ("metric", "window", "amount", "alert_at"), as_json=as_json)
