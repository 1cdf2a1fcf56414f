"""Pure ASGI layers around everything. Never BaseHTTPMiddleware: it hides disconnects and costs most of a hit."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.error_response import error_response
from gateway.errors import BodyTooLarge

RECONCILE_PATH = "/admin/v1/reconcile"
APPLY_PATH = "/admin/v1/apply"
MAX_EXPORT_BYTES = 8 * 2**20
"""An export of the provider's logs: some 50,000 calls. A file of accounts: some 40,000 users."""


class BodyLimit:
    """Refuses bodies above a size with 413, by the declared length or as they come in. `larger`: of some paths."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, larger: Mapping[str, int]) -> None:
        self._app = app
        self._default_bytes = max_bytes
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._larger.get(scope["path"], self._default_bytes)
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if declared.isdigit() and int(declared) > max_bytes:
            await self._refuse(scope, receive, send, max_bytes)
            return
        received = 0
        refused = False

        async def counted() -> Message:
            """What is too much is not handed on: the application reads that the client has gone."""
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message if received <= max_bytes else {"type": "http.disconnect"}

        async def answered(message: Message) -> None:
            """What the application makes of a body cut off is replaced by the refusal."""
            nonlocal refused
            if received <= max_bytes:
                await send(message)
            elif not refused:
                refused = True
                await self._refuse(scope, receive, send, max_bytes)

        await self._app(scope, counted, answered)
        if received > max_bytes and not refused:
            await self._refuse(scope, receive, send, max_bytes)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, max_bytes: int) -> None:
        setting = " (server.max_body_bytes)" if max_bytes == self._default_bytes else ""
        said = f"The body is larger than {max_bytes} bytes{setting}."
        response = error_response(BodyTooLarge(said), path=scope["path"])
        await response(scope, receive, send)
