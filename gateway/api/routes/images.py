"""`GET /images/{id}.{ext}`: the bytes of a picture. No key is needed: the id can't be guessed."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import FileResponse, Response

from gateway.api.dependencies import ResourcesDep
from gateway.api.schemas_images import refused

router = APIRouter(tags=["images"])
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}, "image/png": {}, "image/webp": {}}, "description": "The picture."},
    206: {"description": "A part of it, as `Range` asked."},
    304: {"description": "Not modified: `If-None-Match` named it."},
    416: {"description": "No such part."},
}


@router.get("/images/{name}", response_class=Response, responses={**_CONTENT, **refused(404, 410, 503)})
@router.head("/images/{name}", response_class=Response, include_in_schema=False)
async def get_image(
    name: str,
    resources: ResourcesDep,
    expires: Annotated[str | None, Query(description="Of a signed address.")] = None,
    signature: Annotated[str | None, Query(description="Of a signed address.")] = None,
    if_none_match: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """A picture by the address of an answer. It never changes: caches may keep it for ever."""
    image_id, _, extension = name.partition(".")
    image, path = await resources.gallery.require(
        image_id, extension, expires=expires, signature=signature, now_s=int(time.time())
    )
    etag = f'"{image.sha256}"'
    lifetime = "max-age=31536000, immutable" if signature is None else "max-age=60"
    headers = {
        "etag": etag,
        "cache-control": f"{'public' if signature is None else 'private'}, {lifetime}",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "cross-origin-resource-policy": "cross-origin",
    }
    if if_none_match is not None and _names(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, media_type=image.content_type, headers=headers)


def _names(if_none_match: str, etag: str) -> bool:
    """RFC 9110, section 13.1.2: weak comparison, any of a list, or `*`."""
    candidates = {candidate.strip().removeprefix("W/") for candidate in if_none_match.split(",")}
    return etag in candidates or "*" in candidates
