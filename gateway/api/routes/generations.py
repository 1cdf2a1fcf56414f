"""`POST /v1/images/generations`, its quote, and the receipts of purchases."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi import Response as FastApiResponse
from starlette.responses import Response

from gateway.api import schemas_images as schemas
from gateway.api.answer_headers import call_headers, delivery_headers
from gateway.api.call_reading import STATE, ClientGone, read_call
from gateway.api.dependencies import CallerDep, ResourcesDep
from gateway.api.error_response import error_response
from gateway.errors import DarkroomError, InvalidRequest, LimitExceeded, StillGenerating
from gateway.resources import Call, Delivery, Head, ImageGenerator, Resources

router = APIRouter()


async def begun_call(request: Request, resources: Resources) -> Call:
    """The call that the thin path has begun, or a new one."""
    call: Call | None = request.scope.get(STATE)
    if call is None:
        limit = resources.settings.server.max_body_bytes
        try:
            call = await read_call(request.scope, request.receive, max_body_bytes=limit)
        except ClientGone:  # nobody reads the answer, but one has to be made
            call = Call(Head(), b"")
            call.refusal = InvalidRequest("The body ended before it was whole.")
    return call


async def admit(resources: Resources, call: Call) -> None:
    """Authenticate, admit, validate; a refusal leaves its row. Raises DarkroomError."""
    try:
        if call.refusal is not None:
            raise call.refusal
        await resources.admission.complete(call)
    except DarkroomError as refusal:
        resources.usage.refused(call, refusal)
        raise


def _refused(request: Request, call: Call, refusal: DarkroomError) -> Response:
    """With the generation's id, if it came to one: its receipt goes on telling what becomes of it."""
    headers = call_headers(call)
    if call.generation_id:
        headers.append((b"darkroom-generation-id", call.generation_id.encode()))
    return error_response(refusal, path=request.url.path, request_id=call.request_id, headers=headers)


@router.post("/v1/images/generations", **schemas.GENERATE)
@router.post("/v1/images/generations/", include_in_schema=False)
async def generate_image(request: Request, resources: ResourcesDep) -> Response:
    """A picture: from the cache, from an equal purchase under way, or bought from the provider.

    Calls with a `seed` are cached: the same seed, prompt and parameters give the same answer, and cost nothing
    again. Calls without one always buy a new picture.
    """
    call = await begun_call(request, resources)
    try:
        await admit(resources, call)
        delivery = await _while_connected(request, resources.generator, call)
    except LimitExceeded as refusal:
        resources.admission.give_back(call)
        return _refused(request, call, refusal)
    except StillGenerating as refusal:
        return _accepted(call) if call.respond_async else _refused(request, call, refusal)
    except DarkroomError as refusal:
        return _refused(request, call, refusal)
    response = Response(delivery.body)
    response.raw_headers += [*call_headers(call), *delivery_headers(call, delivery)]
    return response


async def _while_connected(request: Request, generator: ImageGenerator, call: Call) -> Delivery:
    """The delivery; on the way the generator hears when the connection closes. Its work goes on all the same."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        generator.left(call)

    watching = asyncio.create_task(watch(), name=f"watch {call.request_id}")
    try:
        delivery = await generator(call)
        await asyncio.sleep(0)  # a connection that closed in this turn of the loop is heard of now
        return delivery
    finally:
        watching.cancel()


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


@router.post("/v1/images/quote", **schemas.QUOTE)
async def quote(request: Request, resources: ResourcesDep) -> Response:
    """What this body would cost as a generation, whether the cache has it, what is left of each limit. Buys nothing."""
    call = await begun_call(request, resources)
    try:
        if call.refusal is not None:
            raise call.refusal
        await resources.admission.identify(call)
    except DarkroomError as refusal:
        return _refused(request, call, refusal)
    caller, asked, _ = call.known
    hit = await resources.generator.would_hit(call)
    rule, estimate = resources.generator.quote(call)
    limits = await resources.budgets.of(caller)
    body = schemas.quote_body(asked, rule=rule, estimate_micro_usd=0 if hit else estimate, hit=hit, limits=limits)
    response = Response(body, media_type="application/json")
    response.raw_headers += call_headers(call)
    return response


@router.get("/v1/generations/{generation_id}", **schemas.RECEIPT)
async def receipt(
    generation_id: str, caller: CallerDep, resources: ResourcesDep, response: FastApiResponse
) -> dict[str, Any]:
    """The receipt of one of your purchases: its state and pictures, parameters, version, price, cost, reuse.

    While it is under way it says when to ask again (`Retry-After`). A purchase of another user that you joined with
    `Prefer: respond-async` shows its state and pictures.
    """
    found = await resources.receipts.require(generation_id, caller, now_s=int(time.time()))
    if found.under_way:
        response.headers["retry-after"] = "1"
    return schemas.receipt_body(found)
