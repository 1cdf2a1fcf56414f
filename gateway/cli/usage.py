"""`darkroom usage`: what was spent, and what was saved; and the months whose books are closed."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from gateway.cli.client import admin_client, given, in_path
from gateway.cli.output import AsJson, show_items, show_json, show_one, show_table

usage = typer.Typer(help="What was spent, and closed months.")

_NUMBERS = ("requests", "hits", "joined", "generations", "images", "errors", "cost_usd", "saved_usd")


Mode = Annotated[str | None, typer.Option("--mode", help="live or test.")]
Month = Annotated[str, typer.Argument(metavar="MONTH", help="Like 2026-11.")]
_STATEMENTS = "/admin/v1/statements"


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@usage.callback(invoke_without_command=True)
def report(
    ctx: typer.Context,
    *,
    group_by: Annotated[
        str | None,
        typer.Option("--group-by", help="Of user, team, key, model, provider, tag:NAME, label:NAME; with commas."),
    ] = None,
    bucket: Annotated[str | None, typer.Option("--bucket", help="hour, day or month.")] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="TIME", help="From this time on.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before this time.")] = None,
    mode: Mode = None,
    format: Annotated[Format, typer.Option("--format")] = Format.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="As --format json.")] = False,
) -> None:
    """Show spend, images, hits and savings."""
    if ctx.invoked_subcommand is not None:
        return
    client = admin_client(ctx)
    params = {"group_by": group_by, "bucket": bucket, "from": start, "to": end, "mode": mode}
    if format is Format.CSV and not as_json:
        headers = {"Accept": "text/csv"}
        typer.echo(client.call("GET", "/admin/v1/usage", params=given(params), headers=headers).text, nl=False)
        return
    found = client.get("/admin/v1/usage", **params)
    if as_json or format is Format.JSON:
        show_json(found)
    else:
        _show(found, by_time=bucket is not None)


def _show(report: dict[str, Any], *, by_time: bool) -> None:
    rows = [{**row, **row["group"]} for row in report["data"]]
    groups = list(rows[0]["group"]) if rows else []
    kinds = (*groups, *(["bucket"] if by_time else []))
    if kinds:
        show_table((*kinds, *_NUMBERS), rows, total=report["total"])
    else:
        show_table(_NUMBERS, [report["total"]])


@usage.command("close")
def close(ctx: typer.Context, month: Month, mode: Mode = None, as_json: AsJson = False) -> None:
    """Close a month that is over: its sums are frozen, and what comes later is on the next statement."""
    show_one(admin_client(ctx).send("POST", _STATEMENTS, given({"month": month, "mode": mode})), as_json=as_json)


@usage.command("statements")
def statements(ctx: typer.Context, mode: Mode = None, as_json: AsJson = False) -> None:
    """List the months that are closed."""
    found = admin_client(ctx).get(_STATEMENTS, mode=mode)["data"]
    show_items(found, ("month", "mode", "cost_usd", "closed_at", "closed_by"), as_json=as_json)


@usage.command("statement")
def statement(
    ctx: typer.Context,
    month: Month,
    *,
    mode: Mode = None,
    format: Annotated[Format, typer.Option("--format", help="csv: with the columns of FOCUS 1.2.")] = Format.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="As --format json.")] = False,
) -> None:
    """Show a closed month, one line for each key, model and provider."""
    client, path = admin_client(ctx), f"{_STATEMENTS}/{in_path(month)}"
    if format is Format.CSV and not as_json:
        headers = {"Accept": "text/csv"}
        typer.echo(client.call("GET", path, params=given({"mode": mode}), headers=headers).text, nl=False)
        return
    found = client.get(path, mode=mode)
    if as_json or format is Format.JSON:
        show_json(found)
    else:
        columns = ("of_month", "team", "user", "key", "model", "provider", *_NUMBERS)
        show_table(columns, [_named(line) for line in found["lines"]], total=found["total"])


def _named(line: dict[str, Any]) -> dict[str, Any]:
    """What has no name is shown by its id."""
    return {**line, **{kind: line[kind] or line[f"{kind}_id"] for kind in ("team", "user", "key")}}
