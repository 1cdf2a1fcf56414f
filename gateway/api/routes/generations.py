"""`POST /v1/images/generations`, its quote, and the receipts of purchases."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.api import schemas_images as schemas
from gateway.api.answer_headers import call_headers, delivery_headers
from gateway.api.dependencies import CallerDep, ResourcesDep
from gateway.api.error_response import error_response
from gateway.api.hit_path import STATE, ClientGone, read_call
from gateway.errors import DarkroomError, InvalidRequest, LimitExceeded
from gateway.resources import Call, Resources

router = APIRouter()


async def begun_call(request: Request, resources: Resources) -> Call:
    """The call that the thin path has begun, or a new one."""
    call: Call | None = request.scope.get(STATE)
    if call is None:
        limit = resources.settings.server.max_body_bytes
        try:
            call = await read_call(request.scope, request.receive, max_body_bytes=limit)
        except ClientGone:  # nobody reads the answer, but one has to be made
            call = Call(token="", body=b"")
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
        delivery = await resources.generator(call)
    except LimitExceeded as refusal:
        resources.admission.give_back(call)
        return _refused(request, call, refusal)
    except DarkroomError as refusal:
        return _refused(request, call, refusal)
    response = Response(delivery.body)
    response.raw_headers += [*call_headers(call), *delivery_headers(call, delivery)]
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
async def receipt(generation_id: str, caller: CallerDep, resources: ResourcesDep) -> dict[str, Any]:
    """The receipt of one of your purchases: parameters, version, price, cost, pictures, how often it was reused."""
    found = await resources.receipts.require(generation_id, caller, now_s=int(time.time()))
    return schemas.receipt_body(found)
