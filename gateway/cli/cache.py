"""`darkroom cache`: what is kept, and removing it."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.client import admin_client, fail, given
from gateway.cli.output import AsJson, show_json, show_record

cache = typer.Typer(no_args_is_help=True, help="The cache.")


@cache.command("stats")
def stats(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show what the cache holds."""
    found = admin_client(ctx).get("/admin/v1/cache")
    if as_json:
        show_json(found)
    else:
        show_record(found)


@cache.command("purge")
def purge(
    ctx: typer.Context,
    *,
    model: Annotated[str | None, typer.Option("--model")] = None,
    fingerprint: Annotated[str | None, typer.Option("--fingerprint")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="USER_ID", help="What this user bought.")] = None,
    before: Annotated[str | None, typer.Option("--before", metavar="TIME", help="What was bought before.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove entries and their pictures: the next equal request buys again."""
    what = given({"model": model, "fingerprint": fingerprint, "user_id": user, "before": before})
    if not what:
        fail("Say what to purge: --model, --fingerprint, --user or --before.")
    client = admin_client(ctx)
    if not yes:
        chosen = ", ".join(f"{name} {value}" for name, value in what.items())
        typer.confirm(f"Purge every entry of {chosen}? What was paid for is lost.", abort=True, err=True)
    result = client.send("POST", "/admin/v1/cache/purge", what)
    if as_json:
        show_json(result)
    else:
        show_record(result)
