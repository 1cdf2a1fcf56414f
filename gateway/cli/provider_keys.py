"""`darkroom provider-key`: the company's keys of a provider, at run time. A secret is never an argument."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from gateway.cli.client import Client, admin_client, fail, given, in_path
from gateway.cli.output import AsJson, show_items, show_json, show_record

provider_key = typer.Typer(no_args_is_help=True, help="Keys of the provider's account.")

Provider = Annotated[str | None, typer.Option("--provider", help="Its name in the settings, if there are several.")]
Name = Annotated[str | None, typer.Option("--name", help="For people.")]
Weight = Annotated[int | None, typer.Option("--weight", min=1, help="Share of the calls beside the other keys.")]
Concurrency = Annotated[int | None, typer.Option("--max-concurrency", min=1, help="Calls at once with it.")]
ValueFrom = Annotated[
    str | None,
    typer.Option("--value-from", metavar="NAME", help="The environment variable that holds the key; - for stdin."),
]
_COLUMNS = ("id", "provider", "name", "hint", "source", "state", "reason", "weight", "max_concurrency", "open_calls")


@provider_key.command("create")
def create(
    ctx: typer.Context,
    *,
    provider: Provider = None,
    name: Name = None,
    weight: Weight = None,
    max_concurrency: Concurrency = None,
    value_from: ValueFrom = None,
    as_json: AsJson = False,
) -> None:
    """Add a key: asked for unseen, or read from where --value-from says. The next call may be served by it."""
    client = admin_client(ctx)
    body = given({"name": name, "weight": weight, "max_concurrency": max_concurrency})
    path = _path(client, provider)
    _show(client.send("POST", path, {**body, "value": _secret(value_from)}), as_json=as_json)


@provider_key.command("list")
def list_keys(ctx: typer.Context, *, provider: Provider = None, as_json: AsJson = False) -> None:
    """List the keys and how they are."""
    client = admin_client(ctx)
    show_items(client.get(_path(client, provider))["data"], _COLUMNS, as_json=as_json)


@provider_key.command("get")
def get(ctx: typer.Context, id: str, *, provider: Provider = None, as_json: AsJson = False) -> None:
    """Show one."""
    client = admin_client(ctx)
    _show(client.get(f"{_path(client, provider)}/{in_path(id)}"), as_json=as_json)


@provider_key.command("update")
def update(
    ctx: typer.Context,
    id: str,
    *,
    provider: Provider = None,
    name: Name = None,
    weight: Weight = None,
    max_concurrency: Concurrency = None,
    disabled: Annotated[
        bool | None,
        typer.Option("--disable/--enable", show_default=False, help="--enable also ends a rest or an ejection."),
    ] = None,
    rotate: Annotated[bool, typer.Option("--rotate", help="Give it a new secret.")] = False,
    value_from: ValueFrom = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given."""
    client = admin_client(ctx)
    body = given({"name": name, "weight": weight, "max_concurrency": max_concurrency, "disabled": disabled})
    path = f"{_path(client, provider)}/{in_path(id)}"
    if rotate or value_from:
        body["value"] = _secret(value_from)
    if not body:
        fail("Say what to change: --name, --weight, --max-concurrency, --disable, --enable or --rotate.")
    _show(client.send("PATCH", path, body), as_json=as_json)


@provider_key.command("delete")
def delete(ctx: typer.Context, id: str, *, provider: Provider = None) -> None:
    """Delete a key that was added at run time. Its calls under way finish."""
    client = admin_client(ctx)
    client.send("DELETE", f"{_path(client, provider)}/{in_path(id)}")
    typer.echo(f"Deleted {id}.")


@provider_key.command("reencrypt")
def reencrypt(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Seal with the first of security.encryption_keys what an older one sealed, webhooks' secrets too."""
    done = admin_client(ctx).send("POST", "/admin/v1/providers/reencrypt")
    if as_json:
        show_json(done)
    else:
        typer.echo(f"Sealed anew: {done['reencrypted']}.")


def _path(client: Client, provider: str | None) -> str:
    return f"/admin/v1/providers/{in_path(provider or _only_provider(client))}/keys"


def _only_provider(client: Client) -> str:
    named = [found["name"] for found in client.get("/admin/v1/providers")["data"] if found["kind"] != "sandbox"]
    if len(named) != 1:
        fail(f"Say which provider with --provider: {', '.join(named) or 'none is configured'}.")
    return str(named[0])


def _secret(value_from: str | None) -> str:
    if value_from is None:
        if not sys.stdin.isatty():
            fail("There is no terminal to ask for the key at: --value-from - reads it from standard input.")
        return str(typer.prompt("The provider's key", hide_input=True))
    if value_from == "-":
        return sys.stdin.readline().strip()
    value = os.environ.get(value_from, "")
    if not value:
        fail(f"--value-from {value_from}: there is no such environment variable, or it is empty.")
    return value


def _show(record: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(record)
    else:
        show_record(record)
