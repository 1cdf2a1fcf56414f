"""A call begun from its request: what its headers and body say, before anybody judges it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.types import Receive, Scope

from gateway.api.answer_headers import Header
from gateway.api.dependencies import bearer, no_key
from gateway.errors import BodyTooLarge, InvalidApiKey
from gateway.resources import Call, Head

STATE = "darkroom_call"
"""Where a scope holds a call that was begun before the route."""

_LISTS = frozenset({b"cache-control", b"darkroom-tags", b"prefer"})
_READ = _LISTS | {
    b"authorization",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"idempotency-key",
    b"origin",
    b"traceparent",
    b"x-client-request-id",
    b"x-stainless-retry-count",
}
_CLIENT_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class ClientGone(Exception):
    """The client left before its request was whole."""


def read_head(headers: Iterable[Header]) -> Head:
    """What matters of the headers, whose names are in small letters. Without a key the token is empty."""
    said: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _READ:
            said[name] = said[name] + b"," + value if name in said and name in _LISTS else value
    get = said.get
    length = get(b"content-length", b"")
    return Head(
        token=_token(_text(get(b"authorization"))),
        content_length=int(length) if length.isdigit() else None,
        cache_control=_text(get(b"cache-control")),
        tags=_text(get(b"darkroom-tags")),
        client_request_id=_echoed(get(b"x-client-request-id")),
        idempotency_key=_text(get(b"idempotency-key")),
        prefer=_text(get(b"prefer")),
        retry_count=_text(get(b"x-stainless-retry-count")),
        from_page=b"origin" in said,
        traceparent=_text(get(b"traceparent")),
        content_type=_text(get(b"content-type")),
        content_encoding=_text(get(b"content-encoding")),
    )


def begin_call(head: Head, body: bytes) -> Call:
    """A missing key is the call's `refusal`."""
    call = Call(head, body)
    if not head.token:
        call.refusal = no_key()
    return call


async def read_call(scope: Scope, receive: Receive, *, max_body_bytes: int) -> Call:
    """A call from its request. What is wrong so early (key missing, body too large) is its `refusal`.

    Raises ClientGone.
    """
    head = read_head(scope["headers"])
    try:
        body = await read_body(receive, max_body_bytes, declared=head.content_length)
    except BodyTooLarge as exc:
        call = begin_call(head, b"")
        call.refusal = call.refusal or exc
        return call
    return begin_call(head, body)


async def read_body(receive: Receive, max_bytes: int, *, declared: int | None) -> bytes:
    """The whole body, never more than `max_bytes` of it in memory. Raises BodyTooLarge, ClientGone."""
    if declared is not None and declared > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > max_bytes:
            raise _too_large(max_bytes)
        more = message.get("more_body", False)
    return b"".join(chunks)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {max_bytes} bytes (server.max_body_bytes).")


def _token(authorization: str | None) -> str:
    try:
        return bearer(authorization)
    except InvalidApiKey:
        return ""


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _echoed(value: bytes | None) -> str | None:
    """Anything but 1..128 of A-Za-z0-9._:- is dropped silently (contract: Request)."""
    return value.decode() if value is not None and _CLIENT_REQUEST_ID.fullmatch(value) else None
