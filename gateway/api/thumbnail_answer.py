"""The answer that is a thumbnail, for administrators and for callers."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from gateway.api.etags import names
from gateway.api.schemas_images import refused
from gateway.domain.answer import StoredImage
from gateway.resources import Resources


class ThumbnailSide(IntEnum):
    SMALL = 320
    LARGE = 640


ThumbnailSize = Annotated[
    ThumbnailSide, Query(description="The longest side in pixels. A smaller picture is not enlarged.")
]
THUMBNAIL: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/webp": {}}, "description": "The thumbnail."},
    304: {"description": "Not modified: `If-None-Match` named it."},
    **refused(404, 410, 503),
}
"""What the routes declare to answer."""


async def answer_thumbnail(
    resources: Resources, image: StoredImage, size: ThumbnailSide, if_none_match: str | None
) -> Response:
    """Of a picture that was just seen to be there. Browsers keep it for a day: a picture never changes."""
    etag = f'"{image.sha256[:32]}-{size}"'
    headers = {
        "etag": etag,
        "cache-control": "private, max-age=86400",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
    }
    if if_none_match is not None and names(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return Response(await resources.thumbnails.of(image, size), media_type="image/webp", headers=headers)
