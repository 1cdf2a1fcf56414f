"""`darkroom generate`: one picture, from the prompt to the file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urljoin

import httpx
import typer

from gateway.cli.client import (
    PURCHASE_TIMEOUT_S,
    Client,
    base_url,
    caller_key,
    fail,
    given,
    in_path,
    refusal,
    waiting_s,
)
from gateway.cli.output import AsJson, console, show_json

_FORMATS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}
_EXTENSIONS = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}
_FIXED = frozenset({"model", "prompt", "response_format"})
"""What an option of the command can't say: it has its own place, or the picture could not be saved."""


def generate(
    prompt: str,
    *,
    model: Annotated[str, typer.Option("--model")] = "flux-pro",
    size: Annotated[str | None, typer.Option("--size", help="A name of the model's, or like 1024x768.")] = None,
    n: Annotated[int | None, typer.Option("--n", min=1, help="How many pictures.")] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="The same seed gives the same picture, from the cache.")
    ] = None,
    format: Annotated[str | None, typer.Option("--format", help="jpeg or png.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Any other parameter of the model."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to save it; .jpg or .png says the format too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a picture and save it. Uses DARKROOM_BASE_URL and DARKROOM_API_KEY."""
    _check_folder(output or Path("picture"))
    client = Client(base_url(), caller_key(), timeout_s=PURCHASE_TIMEOUT_S)
    known = client.get(f"/v1/models/{in_path(model)}")["parameters"]["properties"]
    body = given({"model": model, "prompt": prompt, "size": size, "n": n, "seed": seed, "output_format": format})
    body |= _options(option, known)
    body |= _format_of(output, body, known)
    response = _generate(client, body)
    answer = response.json()
    saved = [
        _save(urljoin(client.base_url, image["url"]), _target(output, response, position))
        for position, image in enumerate(answer["data"], start=1)
    ]
    files = [file for file in saved if file is not None]
    if as_json:
        show_json({**answer, "files": [str(file) for file in files]})
    else:
        for file in files:
            typer.echo(file)
        console(stderr=True).print(_account(response.headers), markup=False)
    if len(files) < len(saved):
        raise typer.Exit(1)


def _check_folder(target: Path) -> None:
    """Before anything is bought."""
    if target.is_dir():
        fail(f"{target} is a folder: name a file in it.")
    if not target.parent.is_dir():
        fail(f"There is no folder {target.parent} to save the picture in.")
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        fail(f"{target} can't be written.")


def _format_of(output: Path | None, body: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, str]:
    """What the name of the file asks of a model that has the choice."""
    named = _FORMATS.get(output.suffix.lower()) if output else None
    made = known.get("output_format", {}).get("enum", [])
    if named is None or not made:
        return {}
    asked = body.get("output_format", named)
    if named not in made or asked != named:
        other = f"{body['model']} makes {' or '.join(made)}" if named not in made else f"{asked} was asked for"
        fail(f"{output} would hold no {named}: {other}. Give the file another name, or --format {named}.")
    return {"output_format": named}


def _generate(client: Client, body: dict[str, Any]) -> httpx.Response:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415  (heavy: not for every command)

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    deadline = time.monotonic() + PURCHASE_TIMEOUT_S
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        progress.add_task(f"{body['model']} is drawing", total=None)
        while True:
            response = client.try_call("POST", "/v1/images/generations", json=body)
            wait_s = waiting_s(response)
            if wait_s is None or time.monotonic() + wait_s > deadline:
                break
            time.sleep(wait_s)
    if response.is_error:
        fail(refusal(response))
    return response


def _save(url: str, target: Path) -> Path | None:
    """None when it could not be, which is said with the address: the picture is there, and paid.

    Without the key: the address alone gives the picture, and may be another host's.
    """
    try:
        picture = httpx.get(url, timeout=60, follow_redirects=True).raise_for_status()
        kind = picture.headers.get("content-type", "")
        if not target.suffix:
            target = target.with_name(target.name + _EXTENSIONS.get(kind, ""))
        target.write_bytes(picture.content)
    except httpx.HTTPError as exc:
        _say(f"The picture is made, but not saved. It is at {url} ({_reason(exc)}).")
        return None
    except OSError as exc:
        _say(f"The picture is made, but {target} can't be written: {exc.strerror}. It is at {url}")
        return None
    named = _FORMATS.get(target.suffix.lower())
    if named and kind != f"image/{named}":
        _say(f"{target} holds {kind}, whatever its name says: the model made no other.")
    return target


def _reason(exc: httpx.HTTPError) -> str:
    if isinstance(exc, httpx.HTTPStatusError):
        return f"which answers {exc.response.status_code}"
    return str(exc) or type(exc).__name__


def _say(message: str) -> None:
    typer.secho(message, err=True, fg=typer.colors.RED)


def _target(output: Path | None, response: httpx.Response, position: int) -> Path:
    stem = output or Path(f"darkroom-{response.headers.get('darkroom-generation-id', 'picture')}")
    return stem if position == 1 else stem.with_name(f"{stem.stem}-{position}{stem.suffix}")


def _account(headers: httpx.Headers) -> str:
    status = headers.get("cache-status", "")
    source = "from the cache" if "hit" in status else "bought before" if "collapsed" in status else "made now"
    cost, saved = headers.get("darkroom-cost-usd", "unknown"), headers.get("darkroom-saved-usd", "0")
    return f"{source}; cost ${cost}, saved ${saved}"


def _options(pairs: list[str] | None, known: Mapping[str, Any]) -> dict[str, Any]:
    """Of NAME=VALUE, where a value is JSON if it can be, else text. The gateway would pass over a misspelt name."""
    options = {}
    for pair in pairs or ():
        name, separator, value = pair.partition("=")
        if not separator:
            fail(f"--option {pair}: write it like guidance_scale=3.5.")
        if name not in known.keys() - _FIXED:
            fail(f"--option {name}: the model takes {', '.join(sorted(known.keys() - _FIXED))}.")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options
