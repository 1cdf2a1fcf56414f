"""`darkroom reconcile` and `darkroom generation`: our books beside the provider's, and what was unknown."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.amounts import require_amount
from gateway.cli.client import admin_client, fail, given, in_path
from gateway.cli.output import AsJson, Limit, show_items, show_json, show_one, show_record, show_table

generation = typer.Typer(no_args_is_help=True, help="Purchases, and what they cost.")

Cost = Annotated[str, typer.Argument(metavar="COST_USD", help="What it cost in all, like 0.065; 0: not bought.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with it.")]
_COLUMNS = ("id", "status", "mode", "user_id", "model", "provider", "cost_usd", "reserved_usd", "created_at")
_DRIFT = 2
_FAR = 10
"""From so many times what is held on, a cost looks like a slip of the decimal point."""


def reconcile(
    ctx: typer.Context,
    *,
    provider: Annotated[str | None, typer.Option("--provider", help="Its name in the settings.")] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Else the first of this month.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Else now.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="An export of the provider's logs, in their place.")] = None,
    adjust: Annotated[bool, typer.Option("--adjust", help="Post an adjustment for each amount that differs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare our books with the provider's. Exit status 2 when they differ."""
    body = given({"provider": provider, "from": start, "to": end, "adjust": adjust, "csv": _read(csv)})
    found = admin_client(ctx, timeout_s=600).send("POST", "/admin/v1/reconcile", body)
    if as_json:
        show_json(found)
    else:
        _show(found)
    if found["drift"]:
        raise typer.Exit(_DRIFT)


def _read(path: Path | None) -> str | None:
    try:
        return None if path is None else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        fail(f"{path} can't be read: {exc}")


def _show(found: dict[str, Any]) -> None:
    lists = ("ours_only", "theirs_only", "differing", "open")
    show_record({name: value for name, value in found.items() if name not in {*lists, "object"}})
    for name in lists:
        if found[name]:
            typer.echo(f"\n{name.replace('_', ' ')}:")
            show_table(tuple(found[name][0]), found[name])


@generation.command("list")
def list_generations(
    ctx: typer.Context,
    *,
    status: Annotated[
        str | None, typer.Option("--status", help="pending, sent, answered, succeeded, failed or unknown.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="USER_ID")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List purchases, newest first."""
    found = admin_client(ctx).list("/admin/v1/generations", limit=limit, status=status, user_id=user)
    show_items(found, _COLUMNS, as_json=as_json)


@generation.command("get")
def get_generation(ctx: typer.Context, id: str, as_json: AsJson = False) -> None:
    """Show one."""
    show_one(admin_client(ctx).get(f"/admin/v1/generations/{in_path(id)}"), as_json=as_json)


@generation.command("settle")
def settle(
    ctx: typer.Context,
    id: str,
    cost_usd: Cost,
    *,
    reason: Reason,
    yes: Annotated[bool, typer.Option("--yes", "-y", help=f"Do not ask, be it {_FAR} times what is held.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a purchase of unknown outcome cost."""
    require_amount(cost_usd)
    held = admin_client(ctx).get(f"/admin/v1/generations/{in_path(id)}")["reserved_usd"]
    if not yes and 0 < _FAR * Decimal(held) < Decimal(cost_usd):
        typer.confirm(
            f"${cost_usd} is more than {_FAR} times the ${held} held for {id}. Book it?", abort=True, err=True
        )
    _correct(ctx, f"{in_path(id)}/settle", cost_usd, reason, as_json=as_json)


@generation.command("adjust")
def adjust(ctx: typer.Context, id: str, cost_usd: Cost, *, reason: Reason, as_json: AsJson = False) -> None:
    """Correct what a settled purchase cost."""
    require_amount(cost_usd)
    _correct(ctx, f"{in_path(id)}/adjust", cost_usd, reason, as_json=as_json)


def _correct(ctx: typer.Context, path: str, cost_usd: str, reason: str, *, as_json: bool) -> None:
    body = {"cost_usd": cost_usd, "reason": reason}
    show_one(admin_client(ctx).send("POST", f"/admin/v1/generations/{path}", body), as_json=as_json)
