"""Tables, records and JSON on the terminal. A pipe gets lines as long as they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many at most.")]
_WIDE = 10_000


def console(*, stderr: bool = False) -> Console:
    from rich.console import Console  # noqa: PLC0415  (heavy: not for every command)

    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=_WIDE)


def show_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def show_table(
    columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, total: Mapping[str, Any] | None = None
) -> None:
    """`total` becomes a last row, set apart and called so in the first column."""
    from rich.table import Table  # noqa: PLC0415  (heavy: not for every command)
    from rich.text import Text  # noqa: PLC0415

    footer = {columns[0]: "total", **(total or {})}
    table = Table(box=None, show_footer=total is not None, header_style="bold", footer_style="bold")
    for column in columns:
        table.add_column(column, footer=Text(_cell(footer.get(column))), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))
    console().print(table)


def show_record(record: Mapping[str, Any]) -> None:
    from rich.table import Table  # noqa: PLC0415  (heavy: not for every command)
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=(0, 2))
    for name, value in record.items():
        table.add_row(Text(name, style="bold"), Text(_cell(value), overflow="fold"))
    console().print(table)


def show_one(record: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(record)
    else:
        show_record(record)


def show_items(items: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        show_json(items)
    else:
        show_table(columns, items)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return " ".join(f"{name}={_cell(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return " ".join(map(_cell, value))
    return str(value)
