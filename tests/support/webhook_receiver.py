"""A webhook's far end: a real server that checks signatures as a receiver should, and answers what it is told to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from gateway.demo.asgi import Receive, Scope, Send
from gateway.demo.serving import running


class Message(NamedTuple):
    """`signed_by`: the secret of those known that its signature fits; None: it is a forgery."""

    id: str
    at_s: int
    body: dict[str, Any]
    signed_by: str | None
    content_type: str


class Receiver:
    """`answers`: the statuses of the next answers, 204 after those. `secrets`: by which it knows signatures."""

    def __init__(self) -> None:
        self.url = ""
        self.closing = asyncio.Event()
        self.answers: list[int] = []
        self.secrets: list[str] = []
        self.got: list[Message] = []
        self.hold: asyncio.Event | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.got.append(self._message(headers, body))
        if self.hold is not None:
            await self.hold.wait()
        status = self.answers.pop(0) if self.answers else 204
        location = [(b"location", self.url.encode())] if status // 100 == 3 else []
        await send({"type": "http.response.start", "status": status, "headers": location})
        await send({"type": "http.response.body", "body": b""})

    def _message(self, headers: dict[str, str], body: bytes) -> Message:
        message_id, at = headers["webhook-id"], headers["webhook-timestamp"]
        fits = [
            secret
            for secret in self.secrets
            if headers["webhook-signature"] == signature(secret, f"{message_id}.{at}.".encode() + body)
        ]
        return Message(message_id, int(at), json.loads(body), next(iter(fits), None), headers["content-type"])


def signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with running(receiver) as base_url:
        receiver.url = f"{base_url}/hook"
        yield receiver
