"""The gateway as commands call it: where it is, the key, its lists, and its refusals as people read them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import httpx
import typer
import yaml

from gateway.config_operations import reachable
from gateway.config_references import filled_in_throughout

PURCHASE_TIMEOUT_S = 600
_TIMEOUT_S = 60
_PAGE = 1000
_LONGEST_WAIT_S = 60


class Client:
    """One gateway, one key. Every failure ends the command with a message and status 1."""

    def __init__(self, base_url: str, key: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self.base_url = base_url
        self._http = httpx.Client(base_url=base_url, headers=bearer(key), timeout=timeout_s)

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        response = self.try_call(method, path, **options)
        if response.is_error:
            fail(refusal(response))
        return response

    def try_call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """As `call`, but a refusal is returned."""
        try:
            return self._http.request(method, path, **options)
        except httpx.HTTPError as exc:
            fail(unreachable(self.base_url, exc))

    def get(self, path: str, **params: Any) -> Any:
        return self.call("GET", path, params=given(params)).json()

    def send(self, method: str, path: str, body: Any = None) -> Any:
        response = self.call(method, path, json=body)
        return response.json() if response.content else None

    def list(self, path: str, *, limit: int, **params: Any) -> Any:
        """Up to `limit` items, over as many pages as they take."""
        items: Any = []
        cursor = None
        while len(items) < limit:
            page = self.get(path, **params, limit=min(limit - len(items), _PAGE), cursor=cursor)
            items += page["data"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        return items


def in_path(text: str) -> str:
    """An id as one part of a path, whatever was typed."""
    return quote(text, safe="")


def admin_client(ctx: typer.Context, *, timeout_s: float = _TIMEOUT_S) -> Client:
    """With the admin key of DARKROOM_ADMIN_KEY, else the one that the gateway made in its data_dir."""
    config = _read_config(ctx)
    key = os.environ.get("DARKROOM_ADMIN_KEY")
    if not key:
        path = Path(_setting("DARKROOM__DATA_DIR", config.get("data_dir")) or "./data") / "admin_key"
        if not path.is_file():
            fail(f"There is no admin key: set DARKROOM_ADMIN_KEY, or run this where {path} is.")
        key = path.read_text(encoding="utf-8").strip()
    return Client(admin_url(config), key, timeout_s=timeout_s)


def caller_key() -> str:
    key = os.environ.get("DARKROOM_API_KEY")
    if not key:
        fail("There is no key: set DARKROOM_API_KEY. `darkroom key create` makes one.")
    return key


def base_url(config: Mapping[str, Any] | None = None) -> str:
    """DARKROOM_BASE_URL, else the gateway on this machine."""
    server = (config or {}).get("server") or {}
    port = _setting("DARKROOM__SERVER__PORT", server.get("port")) or 8080
    return (os.environ.get("DARKROOM_BASE_URL") or f"http://127.0.0.1:{port}").rstrip("/")


def caller_url(ctx: typer.Context) -> str:
    """Where callers call, by the settings of the command."""
    return base_url(_read_config(ctx))


def admin_url(config: Mapping[str, Any]) -> str:
    """DARKROOM_BASE_URL, else the management port of the gateway on this machine, else that gateway."""
    management = config.get("management") or {}
    port = _setting("DARKROOM__MANAGEMENT__PORT", management.get("port"))
    if os.environ.get("DARKROOM_BASE_URL") or port in {None, "null"}:
        return base_url(config)
    host = _setting("DARKROOM__MANAGEMENT__HOST", management.get("host")) or "127.0.0.1"
    return f"http://{reachable(host)}:{port}"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were given: not None."""
    return {name: value for name, value in values.items() if value is not None}


def refusal(response: httpx.Response) -> str:
    """What a refusal says, and what helps."""
    try:
        error = response.json()["error"]
        message = str(error["message"])
    except (ValueError, KeyError, TypeError):
        return f"The gateway answered {response.status_code} without a message. Is {response.url} a Darkroom?"
    retry = response.headers.get("retry-after")
    return message + (f" Try again in {retry} s." if retry else "")


def unreachable(url: str, exc: httpx.HTTPError) -> str:
    if isinstance(exc, httpx.ConnectError):
        return f"No gateway answers at {url}. Start one with `darkroom serve`, or set DARKROOM_BASE_URL."
    return f"The call to {url} failed: {str(exc) or type(exc).__name__}."


def waiting_s(response: httpx.Response) -> float | None:
    """How long to wait before asking again; None when the answer is final."""
    retry = response.headers.get("retry-after", "")
    if response.status_code not in {429, 503} or response.headers.get("x-should-retry") == "false":
        return None
    return float(retry) if retry.isdigit() and int(retry) <= _LONGEST_WAIT_S else None


def fail(message: str) -> NoReturn:
    typer.secho(message, err=True, fg=typer.colors.RED)
    raise typer.Exit(1)


def _setting(variable: str, configured: Any) -> Any:
    """What the environment says, else the file, with `${...}` filled in."""
    value = os.environ.get(variable) or configured
    try:
        return filled_in_throughout(value)
    except ValueError as exc:
        fail(f"{value}: {exc}")


def _read_config(ctx: typer.Context) -> dict[str, Any]:
    """The settings file as it stands: most of what its `${...}` read need not be there for a command."""
    path: Path | None = ctx.obj
    if path is None and not Path("config.yaml").is_file():
        return {}
    try:
        config = yaml.safe_load((path or Path("config.yaml")).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as exc:
        fail(f"{path or 'config.yaml'} can't be read: {exc}")
    return config if isinstance(config, dict) else {}
