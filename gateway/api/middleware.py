"""Pure ASGI layers around everything. Never BaseHTTPMiddleware: it hides disconnects and costs most of a hit."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.error_response import error_response
from gateway.errors import BodyTooLarge


class BodyLimit:
    """Refuses bodies above a size with 413, by the declared length or as they come in."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await self._refuse(scope, receive, send)
            return
        received = 0
        started = False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except _TooLarge:
            if not started:
                await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        said = f"The body is larger than {self._max_bytes} bytes (server.max_body_bytes)."
        response = error_response(BodyTooLarge(said), path=scope["path"])
        await response(scope, receive, send)


class _TooLarge(Exception):
    """The body grew past the limit."""
