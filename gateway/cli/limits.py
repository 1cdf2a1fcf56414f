"""`darkroom limit`: what a team, a user or a key may spend and ask for."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from gateway.cli.amounts import require_amount
from gateway.cli.client import Client, admin_client, fail, in_path
from gateway.cli.output import AsJson, show_items
from gateway.domain import limits as domain

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
        typer.Option(
            "--alert-at",
            metavar="PERCENT",
            help="Tell webhooks when so much is used. May be repeated. Without it, what was set before stays.",
        ),
    ] = None,
    no_alerts: Annotated[bool, typer.Option("--no-alerts", help="Tell webhooks of it no more.")] = False,
    team: TeamId = None,
    user: UserId = None,
    key: KeyId = None,
    as_json: AsJson = False,
) -> None:
    """Set one limit, as in `darkroom limit set --user USER_ID cost_usd month 100`. Its alerts stay as they are."""
    if alert_at and no_alerts:
        fail("Say --alert-at or --no-alerts, not both.")
    given_window, given_amount = (None, window) if amount is None else (window, amount)
    _check(metric, given_window)
    require_amount(given_amount, whole=metric != domain.Metric.COST_USD)
    client, path = admin_client(ctx), _path(team, user, key)
    entry: dict[str, Any] = {"metric": metric, "window": given_window, "amount": given_amount}
    before, others = _split(client.get(path), metric, given_window)
    alerts = sorted(alert_at) if alert_at else before.get("alert_at")
    if alerts and not no_alerts:
        entry["alert_at"] = alerts
    _put(client, path, [*others, entry], as_json=as_json)


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
    _check(metric, window)
    client, path = admin_client(ctx), _path(team, user, key)
    before, others = _split(client.get(path), metric, window)
    if not before:
        fail(f"There is no limit {metric}{f' {window}' if window else ''} here: nothing was removed.")
    _put(client, path, others, as_json=as_json)


def _check(metric: str, window: str | None) -> None:
    _one_of("metric", metric, domain.Metric)
    if window is not None:
        _one_of("window", window, domain.Window)
    try:
        domain.check_window(domain.Metric(metric), domain.Window(window or ""))
    except ValueError as exc:
        fail(f"{exc}.")


def _one_of(name: str, text: str, kinds: type[StrEnum]) -> None:
    known = [kind.value for kind in kinds if kind.value]
    if text not in known:
        fail(f"{name}: {text!r} is not one of {', '.join(known)}.")


def _path(team: str | None, user: str | None, key: str | None) -> str:
    given = [(kind, value) for kind, value in (("teams", team), ("users", user), ("keys", key)) if value]
    if len(given) != 1:
        fail("Say whose limits: one of --team TEAM_ID, --user USER_ID, --key KEY_ID.")
    kind, scope_id = given[0]
    return f"/admin/v1/{kind}/{in_path(scope_id)}/limits"


def _split(
    entries: list[dict[str, Any]], metric: str, window: str | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The limit of this metric and window, {} when there is none, and the others."""
    here = {(entry["metric"], entry["window"]): entry for entry in entries}
    return here.pop((metric, window), {}), list(here.values())


def _put(client: Client, path: str, entries: list[dict[str, Any]], *, as_json: bool) -> None:
    _show(client.send("PUT", path, entries), as_json=as_json)


def _show(entries: list[dict[str, Any]], *, as_json: bool) -> None:
    show_items(entries, ("metric", "window", "amount", "alert_at"), as_json=as_json)
