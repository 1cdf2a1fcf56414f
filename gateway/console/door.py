"""The way to `/console`, which is loaded when somebody first goes there: who never looks pays nothing for it.

A browser that is sent to the gateway's bare address is led there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "/console"


class ConsoleDoor:
    """Hands what is under `/console` to the console that `make` makes, and all else to the application."""

    def __init__(self, app: ASGIApp, make: Callable[[], ASGIApp]) -> None:
        self._app = app
        self._make = make
        self._console: ASGIApp | None = None
        self._loading = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["path"] == PATH or scope["path"].startswith(PATH + "/")):
            await (self._console or await self._load())(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == "/" and _is_browser(scope):
            await RedirectResponse(PATH, status_code=303)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _load(self) -> ASGIApp:
        async with self._loading:
            if self._console is None:
                self._console = await asyncio.to_thread(self._make)  # imports take a while, and calls go on meanwhile
            return self._console


def _is_browser(scope: Scope) -> bool:
    """Whether it asks to look at a page."""
    return scope["method"] in {"GET", "HEAD"} and "text/html" in Headers(scope=scope).get("accept", "")
