"""`darkroom generate`: one picture, from the prompt to the file."""

from __future__ import annotations

import json
import time
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
    refusal,
    unreachable,
    waiting_s,
)
from gateway.cli.output import AsJson, console, show_json

_EXTENSIONS = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}


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
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where to save it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a picture and save it. Uses DARKROOM_BASE_URL and DARKROOM_API_KEY."""
    body = given({"model": model, "prompt": prompt, "size": size, "n": n, "seed": seed, "output_format": format})
    client = Client(base_url(), caller_key(), timeout_s=PURCHASE_TIMEOUT_S)
    response = _generate(client, {**body, **_options(option)})
    answer = response.json()
    files = [
        _save(urljoin(client.base_url, image["url"]), _target(output, response, position))
        for position, image in enumerate(answer["data"], start=1)
    ]
    if as_json:
        show_json({**answer, "files": [str(file) for file in files]})
    else:
        for file in files:
            typer.echo(file)
        console(stderr=True).print(_account(response.headers), markup=False)


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


def _save(url: str, target: Path) -> Path:
    """Without the key: the address alone gives the picture, and may be another host's."""
    try:
        picture = httpx.get(url, timeout=60, follow_redirects=True)
    except httpx.HTTPError as exc:
        fail(unreachable(url, exc))
    if picture.is_error:
        fail(f"The picture is made, but {url} answers {picture.status_code}.")
    if not target.suffix:
        target = target.with_name(target.name + _EXTENSIONS.get(picture.headers.get("content-type", ""), ""))
    target.write_bytes(picture.content)
    return target


def _target(output: Path | None, response: httpx.Response, position: int) -> Path:
    stem = output or Path(f"darkroom-{response.headers.get('darkroom-generation-id', 'picture')}")
    return stem if position == 1 else stem.with_name(f"{stem.stem}-{position}{stem.suffix}")


def _account(headers: httpx.Headers) -> str:
    status = headers.get("cache-status", "")
    source = "from the cache" if "hit" in status else "bought before" if "collapsed" in status else "made now"
    cost, saved = headers.get("darkroom-cost-usd", "unknown"), headers.get("darkroom-saved-usd", "0")
    return f"{source}; cost ${cost}, saved ${saved}"


def _options(pairs: list[str] | None) -> dict[str, Any]:
    """Of NAME=VALUE, where a value is JSON if it can be, else text."""
    options = {}
    for pair in pairs or ():
        name, separator, value = pair.partition("=")
        if not separator:
            fail(f"--option {pair}: write it like guidance_scale=3.5.")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options
