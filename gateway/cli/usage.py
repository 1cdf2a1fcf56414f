"""`darkroom usage`: what was spent, and what was saved."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from gateway.cli.client import admin_client, given
from gateway.cli.output import show_json, show_table

_NUMBERS = ("requests", "hits", "joined", "generations", "images", "errors", "cost_usd", "saved_usd")


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def usage(
    ctx: typer.Context,
    *,
    group_by: Annotated[
        str | None,
        typer.Option("--group-by", help="Of user, team, key, model, provider, tag:NAME, label:NAME; with commas."),
    ] = None,
    bucket: Annotated[str | None, typer.Option("--bucket", help="hour, day or month.")] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="TIME", help="From this time on.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before this time.")] = None,
    mode: Annotated[str | None, typer.Option("--mode", help="live or test.")] = None,
    format: Annotated[Format, typer.Option("--format")] = Format.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="As --format json.")] = False,
) -> None:
    """Show spend, images, hits and savings."""
    client = admin_client(ctx)
    params = {"group_by": group_by, "bucket": bucket, "from": start, "to": end, "mode": mode}
    if format is Format.CSV and not as_json:
        headers = {"Accept": "text/csv"}
        typer.echo(client.call("GET", "/admin/v1/usage", params=given(params), headers=headers).text, nl=False)
        return
    report = client.get("/admin/v1/usage", **params)
    if as_json or format is Format.JSON:
        show_json(report)
    else:
        _show(report, by_time=bucket is not None)


def _show(report: dict[str, Any], *, by_time: bool) -> None:
    rows = [{**row, **row["group"]} for row in report["data"]]
    groups = list(rows[0]["group"]) if rows else []
    columns = (*groups, *(["bucket"] if by_time else []), *_NUMBERS)
    show_table(columns, rows, total=report["total"])
