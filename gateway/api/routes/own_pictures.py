"""For callers: their own purchases whose pictures are there, and their thumbnails."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from gateway.api.dependencies import CallerDep, ResourcesDep
from gateway.api.schemas_images import refused
from gateway.api.schemas_pictures import OwnPictureList, own_picture
from gateway.api.thumbnail_answer import THUMBNAIL, ThumbnailSide, ThumbnailSize, answer_thumbnail

router = APIRouter(tags=["images"])


@router.get("/v1/generations", responses=refused(400, 401, 403, 503), openapi_extra={"security": [{"callerKey": []}]})
async def list_own(
    caller: CallerDep,
    resources: ResourcesDep,
    q: Annotated[str | None, Query(max_length=200, description="A part of the prompt, in any case.")] = None,
    model: str | None = None,
    seed: Annotated[int | None, Query(ge=-(2**63), lt=2**63)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
) -> OwnPictureList:
    """Your user's purchases whose pictures are there, newest first, of all its keys of this mode."""
    page = await resources.pictures.list(
        words=q or None,
        model=model,
        seed=seed,
        mode=caller.mode.value,
        user_id=caller.user_id,
        limit=limit,
        cursor=cursor,
        now_s=int(time.time()),
    )
    return OwnPictureList(
        data=[own_picture(row) for row in page.data],
        has_more=page.has_more,
        next_cursor=page.next_cursor,
        prompts_kept=resources.pictures.prompts_kept,
    )


@router.get(
    "/v1/images/{image_id}/thumbnail",
    response_class=Response,
    responses={**THUMBNAIL, **refused(400, 401, 403)},
    openapi_extra={"security": [{"callerKey": []}]},
)
async def own_thumbnail(
    image_id: str,
    request: Request,
    caller: CallerDep,
    resources: ResourcesDep,
    size: ThumbnailSize = ThumbnailSide.SMALL,
) -> Response:
    """A picture of one of your purchases as a small WebP."""
    image = await resources.thumbnails.require(image_id, mode=caller.mode.value, user_id=caller.user_id)
    return await answer_thumbnail(resources, image, size, request.headers.get("if-none-match"))
