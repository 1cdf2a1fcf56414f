"""`POST /v1/images/generations`, its quote, and the receipts of purchases."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi import Response as FastApiResponse
from starlette.responses import Response

from gateway.api import schemas_images as schemas
from gateway.api.answer_headers import call_headers
from gateway.api.call_reading import ClientGone, read_call
from gateway.api.dependencies import SIGNED_IN, CallerDep, ResourcesDep
from gateway.api.generation_answer import answer_call, refused
from gateway.domain.caller import Caller
from gateway.errors import DarkroomError, InvalidApiKey, InvalidRequest
from gateway.resources import Call, Delivery, Head, ImageGenerator, Resources

router = APIRouter()


async def _read(request: Request, resources: Resources) -> Call:
    try:
        limit = resources.settings.server.max_body_bytes
        call = await read_call(request.scope, request.receive, max_body_bytes=limit)
    except ClientGone:  # nobody reads the answer, but one has to be made
        call = Call(Head(), b"")
        call.refusal = InvalidRequest("The body ended before it was whole.")
        return call
    signed_in = request.scope.get(SIGNED_IN)
    if isinstance(signed_in, Caller):
        call.caller = signed_in
        if isinstance(call.refusal, InvalidApiKey):  # it has no key of its own, and needs none
            call.refusal = None
    return call


@router.post("/v1/images/generations", **schemas.GENERATE)
@router.post("/v1/images/generations/", include_in_schema=False)
async def generate_image(request: Request, resources: ResourcesDep) -> Response:
    """A picture: from the cache, from an equal purchase under way, or bought from the provider.

    Calls with a `seed` are cached: the same seed, prompt and parameters give the same answer, and cost nothing
    again. Calls without one always buy a new picture.
    """
    call = await _read(request, resources)

    async def deliver(call: Call) -> Delivery:
        return await _while_connected(request, resources.generator, call)

    return await answer_call(resources, call, deliver, path=request.url.path)


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


@router.post("/v1/images/quote", **schemas.QUOTE)
async def quote(request: Request, resources: ResourcesDep) -> Response:
    """What this body would cost as a generation, whether the cache has it, what is left of each limit. Buys nothing."""
    call = await _read(request, resources)
    try:
        if call.refusal is not None:
            raise call.refusal
        await resources.admission.identify(call)
    except DarkroomError as refusal:
        return refused(call, refusal, path=request.url.path)
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
