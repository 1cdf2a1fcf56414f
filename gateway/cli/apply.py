"""`darkroom apply`: teams, users, keys and limits as a file declares them; `darkroom key hash` for its keys."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
import yaml

from gateway.cli.client import admin_client, fail, refusal
from gateway.cli.output import AsJson, show_json, show_record, show_table
from gateway.cli.settings import load
from gateway.config import Settings
from gateway.config_file import ConfigFile, Location
from gateway.domain.api_key import ApiKey, Mode, hash_api_key, new_api_key, parse_api_key

DRIFT = 2
"""Exit status of a dry run that found something to change."""
_SAID = {"extra_forbidden": "there is no such field", "missing": "it has to be there"}
"""Of pydantic's codes, where its words speak of Python."""


def apply(
    ctx: typer.Context,
    *,
    file: Annotated[
        Path, typer.Option("--file", "-f", exists=True, dir_okay=False, help="YAML; see docs/accounts.md.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what differs; exit status 2 if anything does.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete what the file declared once, and does not now.")
    ] = False,
    source: Annotated[
        str | None, typer.Option("--source", help="The name that the accounts remember; else the file's own.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring accounts to what a file declares. Applied again it changes nothing."""
    body = {**_read(file), "source": source or file.name, "dry_run": dry_run, "prune": prune}
    response = admin_client(ctx).try_call("POST", "/admin/v1/apply", json=body)
    if response.is_error:
        fail("\n".join(_mistakes(response, file)) or refusal(response))
    found = response.json()
    if as_json:
        show_json(found)
    else:
        _show(found["changes"], dry_run=dry_run)
    if dry_run and found["changes"]:
        raise typer.Exit(DRIFT)


def _mistakes(response: httpx.Response, file: Path) -> Iterator[str]:
    """Each with its line. None where the refusal is not about the form of the file."""
    try:
        issues = response.json()["error"]["data"]
        found = [(tuple(issue["path"]), _SAID.get(issue["code"], issue["message"])) for issue in issues]
    except (ValueError, KeyError, TypeError):
        return
    root = yaml.compose(file.read_text(encoding="utf-8"), _Loader)
    read = ConfigFile(file, {}, dict(_lines(root, ())) if root else {})
    for path, said in found:
        yield f"{read.where(path)}{'.'.join(map(str, path))}: {said}"


def _lines(node: yaml.Node, location: Location) -> Iterator[tuple[Location, int]]:
    yield location, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from _lines(value, (*location, name.value))
            yield (*location, name.value), name.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _lines(item, (*location, number))


def hash_key(
    ctx: typer.Context,
    mode: Annotated[Mode, typer.Option("--mode", help="live or test.")] = Mode.LIVE,
    existing: Annotated[
        bool, typer.Option("--existing", help="Ask for a key that there is, in place of a new one.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key on this machine, with the prefix and hash by which a file declares it. Nothing is sent.

    The hash is made with security.secrets, else with the secret that the gateway made in its data_dir, so this needs
    the settings of the gateway.
    """
    pepper = _pepper(load(ctx))
    key = _typed() if existing else new_api_key(mode)
    hashed = hash_api_key(key.text, pepper.encode())
    record = {"key": key.text, "mode": key.mode.value, "prefix": key.prefix, "hash": hashed}
    if existing:
        del record["key"]
    if as_json:
        show_json(record)
    else:
        show_record(record)


def _pepper(settings: Settings) -> str:
    if settings.security.secrets:
        return settings.security.secrets[0].get_secret_value()
    found = settings.generated("secret")
    if found is None:
        fail(
            f"There is no secret to hash with: run this where {settings.data_dir / 'secret'} is, "
            "which the gateway made, or with its security.secrets."
        )
    return found


def _typed() -> ApiKey:
    key = parse_api_key(typer.prompt("Key", hide_input=True).strip())
    if key is None:
        fail("This is not a Darkroom key: it has a wrong form or checksum. Was it copied whole?")
    return key


class _Loader(yaml.SafeLoader):
    """A name that stands there twice is refused: of two lists of limits one would pass for none."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for name, _ in node.value:
            if name.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name.value} stands there twice", name.start_mark)
            seen.add(name.value)
        return super().construct_mapping(node, deep)


def _read(file: Path) -> dict[str, Any]:
    try:
        data = _plain(yaml.load(file.read_text(encoding="utf-8"), _Loader))  # noqa: S506  (a safe one)
    except (OSError, ValueError, yaml.YAMLError) as exc:  # ValueError: no UTF-8, a date that is none
        fail(f"{file} can't be read: {exc}")
    except RecursionError:
        fail(f"{file} can't be read: an alias holds itself")
    if not isinstance(data, dict) or not set(data) <= {"teams", "users"}:
        fail(f"{file}: a file of accounts has two lists, teams and users, and nothing else; see docs/accounts.md.")
    return {name: listed or [] for name, listed in data.items()}


def _plain(value: Any) -> Any:
    """As JSON has it: YAML reads times as times. Raises ValueError for what JSON has not."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    if isinstance(value, bytes | set) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{value!r} is no value of JSON")
    return value


def _show(changes: list[dict[str, Any]], *, dry_run: bool) -> None:
    if not changes:
        typer.echo("All is as the file says.")
        return
    show_table(("action", "kind", "name", "id", "fields"), changes)
    if any(change["action"] == "extra" for change in changes):
        typer.echo("extra: the file does not declare it any more; --prune deletes it.")
    if dry_run:
        typer.echo("Nothing was changed (--dry-run).")
