"""For administrators: try a key out, as its caller would. It spends the key's money, under the key's limits."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from gateway.api import schemas_images as schemas
from gateway.api.dependencies import SIGNED_IN, ResourcesDep, require_admin, requires
from gateway.api.routes.generations import generate_image, quote
from gateway.api.routes.models import ModelList, list_models
from gateway.api.schemas import refusals
from gateway.domain.administrator import Administrator, Permission
from gateway.domain.caller import Caller
from gateway.errors import NotFound
from gateway.resources import Resources

router = APIRouter(
    prefix="/admin/v1/keys/{key_id}",
    tags=["playground"],
    dependencies=[Depends(require_admin)],
    responses=refusals(400, 401, 403, 404, 503),
)
Spender = Annotated[Administrator, requires(Permission.SPEND)]
_BODY = {"openapi_extra": schemas.QUOTE["openapi_extra"]}


async def _caller(prefix: str, resources: Resources) -> Caller:
    caller = await resources.callers.holder(prefix)
    if caller is None:
        raise NotFound("This key was just deleted.")
    return caller


@router.get("/models")
async def models_of_key(key_id: str, resources: ResourcesDep, admin: Spender) -> ModelList:
    """The models that the key may use."""
    key = await resources.accounts.within(admin.team_id).get_key(key_id)
    return await list_models(await _caller(key.prefix, resources), resources)


@router.post("/images/quote", response_model=schemas.Quote, responses=schemas.refused(413, 429), **_BODY)
async def quote_as_key(key_id: str, request: Request, resources: ResourcesDep, admin: Spender) -> Response:
    """What the body would cost the key. Buys nothing."""
    key = await resources.accounts.within(admin.team_id).get_key(key_id)
    request.scope[SIGNED_IN] = await _caller(key.prefix, resources)
    return await quote(request, resources)


@router.post(
    "/images/generations",
    response_model=schemas.ImagesAnswer,
    responses=schemas.refused(409, 413, 422, 429, 502, 504),
    **_BODY,
)
async def generate_as_key(key_id: str, request: Request, resources: ResourcesDep, admin: Spender) -> Response:
    """As `POST /v1/images/generations` with the key. The audit trail keeps who did."""
    key = await resources.accounts.within(admin.team_id).spend_as(key_id, actor=admin.actor)
    request.scope[SIGNED_IN] = await _caller(key.prefix, resources)
    return await generate_image(request, resources)
