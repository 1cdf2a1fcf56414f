"""`darkroom audit` and `darkroom alerts`: what administrators changed, and which limits filled up."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.client import admin_client
from gateway.cli.output import AsJson, Limit, show_items


def audit(
    ctx: typer.Context,
    *,
    actor: Annotated[str | None, typer.Option("--actor", help="As the list has it, or an administrator's id.")] = None,
    action: Annotated[str | None, typer.Option("--action", help="Object and verb, like key.create.")] = None,
    object_id: Annotated[str | None, typer.Option("--object", metavar="ID", help="Of what was changed.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List what administrators changed, newest first."""
    found = admin_client(ctx).list("/admin/v1/audit", limit=limit, actor=actor, action=action, object_id=object_id)
    show_items(found, ("at", "actor", "action", "object_id", "detail"), as_json=as_json)


def alerts(
    ctx: typer.Context,
    *,
    team: Annotated[str | None, typer.Option("--team", metavar="ID", help="Its own, its users' and keys'.")] = None,
    scope_id: Annotated[str | None, typer.Option("--of", metavar="ID", help="Of one team, user or key.")] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="TIME", help="From this time on.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before this time.")] = None,
    mode: Annotated[str | None, typer.Option("--mode", help="live or test.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List the limits that reached a share of their amount, newest first."""
    chosen = {"team_id": team, "scope_id": scope_id, "from": start, "to": end, "mode": mode}
    found = admin_client(ctx).list("/admin/v1/alerts", limit=limit, **chosen)
    show_items(found, ("at", "mode", "limit", "scope_id", "name", "percent", "used", "amount"), as_json=as_json)
