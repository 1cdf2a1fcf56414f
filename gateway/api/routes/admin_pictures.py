"""For administrators: the pictures that are there, their thumbnails, and the receipt of one purchase."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from gateway.api.dependencies import ResourcesDep, Seer
from gateway.api.schemas import Moment, refusals
from gateway.api.schemas_pictures import FullReceipt, PictureList, full_receipt, picture_row
from gateway.api.thumbnail_answer import THUMBNAIL, ThumbnailSide, ThumbnailSize, answer_thumbnail
from gateway.domain.api_key import Mode

router = APIRouter(prefix="/admin/v1", tags=["pictures"], responses=refusals(400, 401, 403, 503))
Words = Annotated[str | None, Query(max_length=200, description="A part of the prompt, in any case.")]
Seed = Annotated[int | None, Query(ge=-(2**63), lt=2**63)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]


@router.get("/pictures")
async def list_pictures(
    resources: ResourcesDep,
    admin: Seer,
    q: Words = None,
    model: str | None = None,
    user_id: str | None = None,
    team_id: str | None = None,
    key_id: str | None = None,
    seed: Seed = None,
    mode: Mode = Mode.LIVE,
    cached: Annotated[bool | None, Query(description="Whether an equal call would get it from the cache.")] = None,
    from_: Annotated[Moment | None, Query(alias="from", description="ISO 8601 or Unix seconds.")] = None,
    to: Annotated[Moment | None, Query(description="The range is half-open.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> PictureList:
    """Purchases whose pictures are there, newest first."""
    page = await resources.pictures.list(
        words=q or None,
        model=model,
        user_id=user_id,
        team_id=admin.team(team_id),
        key_id=key_id,
        seed=seed,
        mode=mode.value,
        cached=cached,
        from_ms=from_,
        to_ms=to,
        limit=limit,
        cursor=cursor,
        now_s=int(time.time()),
    )
    return PictureList(
        data=[picture_row(row) for row in page.data],
        has_more=page.has_more,
        next_cursor=page.next_cursor,
        prompts_kept=resources.pictures.prompts_kept,
    )


@router.get("/generations/{generation_id}/receipt", responses=refusals(404))
async def full_receipt_of(generation_id: str, resources: ResourcesDep, admin: Seer) -> FullReceipt:
    """All that is known of a purchase: what was asked, what it cost and by which rule, its pictures, its reuse."""
    receipt = await resources.receipts.require_any(generation_id, now_s=int(time.time()), team_id=admin.team_id)
    return full_receipt(receipt, resources.pictures.prompt_of(receipt.row["request"]))


@router.get("/images/{image_id}/thumbnail", response_class=Response, responses=THUMBNAIL)
async def thumbnail(
    image_id: str,
    request: Request,
    resources: ResourcesDep,
    admin: Seer,
    size: ThumbnailSize = ThumbnailSide.SMALL,
) -> Response:
    """A picture as a small WebP."""
    image = await resources.thumbnails.require(image_id, team_id=admin.team_id)
    return await answer_thumbnail(resources, image, size, request.headers.get("if-none-match"))
