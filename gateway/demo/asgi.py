"""The few ASGI words that the demo provider speaks."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

NAMES = {
    400: "BadRequestException",
    401: "UnauthorizedException",
    403: "ForbiddenException",
    404: "NotFoundException",
}


async def read(receive: Receive) -> bytes:
    """The whole body of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def reply(send: Send, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
    """Bytes as they are, anything else as JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    named = {"content-type": "application/json", "content-length": str(len(body))} | (headers or {})
    pairs = [(name.encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def refuse(
    send: Send, status: int, message: str, *, path: str, data: Any = None, retry_after: str | None = None
) -> None:
    """A refusal in the provider's envelope."""
    envelope = {
        "title": NAMES.get(status, "Error"),
        "status": status,
        "message": message,
        "instance": f"{path}?",
        "requestId": str(uuid.uuid4()),
        "statusCode": status,
        "path": path,
        "error": {"name": NAMES.get(status, "HttpException"), "message": message, "data": data},
    }
    await reply(send, status, envelope, {"retry-after": retry_after} if retry_after else None)


def abort(send: Send) -> None:
    """Drop the connection without a word. ASGI has no such message, so uvicorn's own transport is used."""
    send.__self__.transport.abort()  # type: ignore[attr-defined]
