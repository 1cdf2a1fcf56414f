"""The admin API as pages call it, in process, as whoever is signed in.

What a role may not do is refused by the API and nowhere else: a page shows and changes nothing that a call could not.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api.dependencies import SIGNED_IN
from gateway.domain.administrator import Administrator
from gateway.domain.caller import Caller
from gateway.errors import NotFound

_NAMES_AT_ONCE = 500
_PATH = re.compile(r"(/(?!\.+(/|$))[^\x00-\x1f\x7f/?#%\\]+)+")
"""An id comes from an address or a form: it never leads to another route, and brings no parameters of its own."""


class ApiRefusal(Exception):
    """What the API refused, as it said it."""

    def __init__(self, response: httpx.Response) -> None:
        body = response.json()
        error = body.get("error", {})
        self.status: int = response.status_code
        self.code: str = error.get("code", "internal_error")
        self.message: str = body.get("message", "Something went wrong.")
        self.data: Any = error.get("data")
        self.retry_after: str | None = response.headers.get("retry-after")
        self.headers = response.headers
        super().__init__(self.message)

    @property
    def issues(self) -> list[str]:
        """What is wrong, field by field, where the API says so."""
        found = self.data if isinstance(self.data, list) else []
        return [str(each["message"]) for each in found if isinstance(each, dict) and "message" in each]


class Api:
    """`app`: the application with all routes, of callers and operators."""

    def __init__(self, app: ASGIApp, identity: Administrator | Caller) -> None:
        async def signed(scope: Scope, receive: Receive, send: Send) -> None:
            scope[SIGNED_IN] = identity
            await app(scope, receive, send)

        transport = httpx.ASGITransport(signed, raise_app_exceptions=False)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://console", trust_env=False)

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Raises ApiRefusal for every answer of 400 and above, NotFound for a path that names no one thing."""
        if not _PATH.fullmatch(path):
            raise NotFound("Nothing has this id.")
        response = await self._http.request(method, path, **options)
        if response.is_error:
            raise ApiRefusal(response)
        return response

    async def get(self, path: str, **params: Any) -> Any:
        """Parameters that are None or empty are left out."""
        given = {name.rstrip("_"): value for name, value in params.items() if value not in {None, ""}}
        return (await self.call("GET", path, params=given)).json()

    async def send(self, method: str, path: str, body: Any = None) -> Any:
        response = await self.call(method, path, json=body)
        return response.json() if response.content else None

    async def names(self, ids: Iterable[str | None]) -> dict[str, str]:
        """What teams, users and keys are called, those included that were deleted."""
        wanted = sorted({each for each in ids if each})
        parts = [wanted[at : at + _NAMES_AT_ONCE] for at in range(0, len(wanted), _NAMES_AT_ONCE)]
        answers = await asyncio.gather(*(self.get("/admin/v1/names", ids=",".join(part)) for part in parts))
        return {each["id"]: each["name"] for answer in answers for each in answer["data"]}
