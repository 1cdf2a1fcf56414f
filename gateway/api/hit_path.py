"""The thin path: a pure ASGI layer in front of FastAPI that answers hits held in memory.

It reads the body, does what memory allows with the same functions as the route (`Admission.try_now`,
`ImageGenerator.from_memory`), and hands everything else on with the call it has begun. Routing, dependency solving
and response classes of the framework cost several times what a hit costs; nothing here is awaited but the socket.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.answer_headers import Header, call_headers, delivery_headers
from gateway.api.dependencies import bearer
from gateway.errors import BodyTooLarge, DarkroomError, InvalidApiKey
from gateway.resources import Call, Delivery, Resources

PATHS = frozenset({"/v1/images/generations", "/v1/images/generations/"})
STATE = "darkroom_call"
_LISTS = frozenset({b"cache-control", b"darkroom-tags", b"prefer"})
_READ = _LISTS | {
    b"authorization",
    b"content-length",
    b"idempotency-key",
    b"x-client-request-id",
    b"x-stainless-retry-count",
}
_CLIENT_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class ClientGone(Exception):
    """The client left before its request was whole."""


class HitPath:
    """`app.state.resources` must be set before the first request: the lifespan does."""

    def __init__(self, app: ASGIApp, *, state: object) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in PATHS:
            await self._app(scope, receive, send)
            return
        resources: Resources = self._state.resources  # type: ignore[attr-defined]
        try:
            call = await read_call(scope, receive, max_body_bytes=resources.settings.server.max_body_bytes)
        except ClientGone:
            return
        delivery = self._answer(resources, call)
        if delivery is None:
            scope[STATE] = call
            await self._app(scope, _only_disconnect(receive), send)
            return
        headers = call_headers(call) + delivery_headers(call, delivery)
        headers.append((b"content-length", str(len(delivery.body)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": delivery.body})

    @staticmethod
    def _answer(resources: Resources, call: Call) -> Delivery | None:
        """A hit, or None: then the call is handed on, with its refusal if there is one already."""
        if call.refusal is not None or call.idempotency_header is not None:
            return None
        try:
            if resources.admission.try_now(call):
                return resources.generator.from_memory(call)
        except DarkroomError as refusal:
            call.refusal = refusal
        return None


def _only_disconnect(receive: Receive) -> Receive:
    """The body has been read: what is left to hear is that the client went away."""

    async def rest() -> Message:
        message = await receive()
        return message if message["type"] == "http.disconnect" else {"type": "http.disconnect"}

    return rest


async def read_call(scope: Scope, receive: Receive, *, max_body_bytes: int) -> Call:
    """Begin a call from its request. What is wrong so early (key missing, body too large) is its `refusal`."""
    said: dict[bytes, bytes] = {}
    for name, value in _headers(scope):
        if name in _READ:
            said[name] = said[name] + b"," + value if name in said and name in _LISTS else value
    get = said.get
    refusal: DarkroomError | None = None
    token = ""
    try:
        token = bearer(_text(get(b"authorization")))
    except InvalidApiKey as exc:
        refusal = exc
    body = b""
    try:
        body = await read_body(receive, max_body_bytes, declared=get(b"content-length"))
    except BodyTooLarge as exc:
        refusal = refusal or exc
    call = Call(
        token=token,
        body=body,
        cache_control=_text(get(b"cache-control")),
        tags_header=_text(get(b"darkroom-tags")),
        client_request_id=_echoed(get(b"x-client-request-id")),
        idempotency_header=_text(get(b"idempotency-key")),
        prefer_header=_text(get(b"prefer")),
        retry_header=_text(get(b"x-stainless-retry-count")),
    )
    call.refusal = refusal
    return call


async def read_body(receive: Receive, max_bytes: int, *, declared: bytes | None) -> bytes:
    """The whole body, never more than `max_bytes` of it in memory. Raises BodyTooLarge, ClientGone."""
    if declared is not None and declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body") and message["type"] == "http.request":
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        return body
    chunks = [body]
    size = len(body)
    while message.get("more_body") or message["type"] != "http.request":
        if message["type"] == "http.disconnect":
            raise ClientGone
        if size > max_bytes:
            raise _too_large(max_bytes)
        message = await receive()
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        chunks.append(chunk)
    if size > max_bytes:
        raise _too_large(max_bytes)
    return b"".join(chunks)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {max_bytes} bytes (server.max_body_bytes).")


def _headers(scope: Scope) -> Iterable[Header]:
    headers: Iterable[Header] = scope["headers"]
    return headers


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _echoed(value: bytes | None) -> str | None:
    """Anything but 1..128 of A-Za-z0-9._:- is dropped silently (contract: Request)."""
    return value.decode() if value is not None and _CLIENT_REQUEST_ID.fullmatch(value) else None
