"""A call to `POST /v1/images/generations`, from what was read of it to its answer, and the short way there.

Most calls come whole through `HitProtocol`, which has read them and hears when their connection closes. They need no
routing, no dependencies and no task to watch the connection: with thousands waiting these are most of their memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api.answer_headers import call_headers, delivery_headers
from gateway.api.call_reading import STATE
from gateway.api.error_response import error_response, unexpected_response
from gateway.errors import DarkroomError, LimitExceeded, StillGenerating
from gateway.resources import Call, Delivery, Resources
from gateway.telemetry.tracing import Span

Deliver = Callable[[Call], Awaitable[Delivery]]


class BegunCalls:
    """Answers the calls that `HitProtocol` has begun; everything else is the application's."""

    def __init__(self, app: ASGIApp, resources: Resources) -> None:
        self._app = app
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call: Call | None = scope.get(STATE)
        if call is None:
            await self._app(scope, receive, send)
            return
        try:
            response = await answer_call(self._resources, call, self._deliver, path=scope["path"])
        except Exception as exc:  # noqa: BLE001  (as the framework does for its routes)
            response = unexpected_response(exc, path=scope["path"])
        await response(scope, receive, send)

    async def _deliver(self, call: Call) -> Delivery:
        delivery = await self._resources.generator(call)
        await asyncio.sleep(0)  # a connection that closed in this turn of the loop is heard of now
        return delivery


async def answer_call(resources: Resources, call: Call, deliver: Deliver, *, path: str) -> Response:
    """The picture or the refusal. `deliver` is the generator, and hears on the way whether the caller has gone."""
    with resources.tracing.call(call.head.traceparent, ago_us=call.latency_us) as span:
        response = await _answer(resources, call, deliver, span, path)
        note_call(span, call)
        span.note(status=response.status_code)
        return response


def note_call(span: Span, call: Call) -> None:
    """What a trace tells of a call: never what was asked for, nor by which key."""
    request, caller = call.request, call.caller
    span.note(
        request_id=call.request_id,
        generation_id=call.generation_id,
        model=None if request is None else request.model.name,
        mode=None if caller is None else caller.mode_name,
    )


async def _answer(resources: Resources, call: Call, deliver: Deliver, span: Span, path: str) -> Response:
    try:
        await _admit(resources, call)
        delivery = await deliver(call)
    except DarkroomError as refusal:
        if isinstance(refusal, LimitExceeded):
            resources.admission.give_back(call)
        if isinstance(refusal, StillGenerating) and call.respond_async:
            return _accepted(call)
        span.note(code=refusal.code)
        return refused(call, refusal, path=path)
    span.note(outcome=delivery.outcome)
    response = Response(delivery.body)
    response.raw_headers += [*call_headers(call), *delivery_headers(call, delivery)]
    return response


def refused(call: Call, refusal: DarkroomError, *, path: str) -> Response:
    """With the generation's id, if it came to one: its receipt goes on telling what becomes of it."""
    headers = call_headers(call)
    if call.generation_id:
        headers.append((b"darkroom-generation-id", call.generation_id.encode()))
    return error_response(refusal, path=path, request_id=call.request_id, headers=headers)


async def _admit(resources: Resources, call: Call) -> None:
    """Authenticate, admit, validate; a refusal leaves its row. Raises DarkroomError."""
    try:
        if call.refusal is not None:
            raise call.refusal
        await resources.admission.complete(call)
    except DarkroomError as refusal:
        resources.usage.refused(call, refusal)
        raise


def _accepted(call: Call) -> Response:
    """202 for `Prefer: respond-async`: the receipt tells the state and at last the picture."""
    place = f"/v1/generations/{call.generation_id}"
    body = {"id": call.generation_id, "object": "generation", "status": "pending", "location": place}
    response = Response(msgspec.json.encode(body), status_code=202, media_type="application/json")
    response.raw_headers += [
        *call_headers(call),
        (b"location", place.encode()),
        (b"preference-applied", b"respond-async"),
        (b"retry-after", b"1"),
        (b"darkroom-generation-id", str(call.generation_id).encode()),
    ]
    return response
