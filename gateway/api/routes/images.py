"""`GET /images/{id}.{ext}`: the bytes of a picture. No key is needed: the id can't be guessed."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response, StreamingResponse

from gateway.api.dependencies import ResourcesDep
from gateway.api.error_response import error_response
from gateway.api.etags import names
from gateway.api.schemas import Refusal
from gateway.api.schemas_images import refused
from gateway.domain.answer import StoredImage
from gateway.errors import DarkroomError
from gateway.resources import ImageGallery

router = APIRouter(tags=["images"])
# One range of bytes. Anything else a server may ignore, and then serves the whole (RFC 9110, section 14.2).
_RANGE = re.compile(r"bytes=(?:([0-9]{1,15})-([0-9]{0,15})|-([0-9]{1,15}))")
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}, "image/png": {}, "image/webp": {}}, "description": "The picture."},
    206: {"description": "A part of it, as `Range` asked."},
    302: {"description": "With `image_store.serve: redirect`: where it is for the next minutes."},
    304: {"description": "Not modified: `If-None-Match` named it."},
    416: {"model": Refusal, "description": "No such part."},
}


class RangeNotSatisfiable(DarkroomError):
    code = "range_not_satisfiable"
    status = 416
    type = "invalid_request_error"


@router.get("/images/{name}", response_class=Response, responses={**_CONTENT, **refused(404, 410, 503)})
@router.head("/images/{name}", response_class=Response, include_in_schema=False)
async def get_image(
    request: Request,
    name: str,
    resources: ResourcesDep,
    expires: Annotated[str | None, Query(description="Of a signed address.")] = None,
    signature: Annotated[str | None, Query(description="Of a signed address.")] = None,
    if_none_match: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """A picture by the address of an answer. It never changes: caches may keep it for ever."""
    image_id, _, extension = name.partition(".")
    image = await resources.gallery.require(
        image_id, extension, expires=expires, signature=signature, now_s=int(time.time())
    )
    etag = f'"{image.sha256}"'
    lifetime = "max-age=31536000, immutable" if signature is None else "no-cache"
    headers = {
        "etag": etag,
        "cache-control": f"{'public' if signature is None else 'private'}, {lifetime}",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "cross-origin-resource-policy": "cross-origin",
        "accept-ranges": "bytes",
    }
    if if_none_match is not None and names(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    address = await resources.gallery.address(image, "HEAD" if request.method == "HEAD" else "GET")
    if address is not None:
        for_a_while = f"private, max-age={resources.gallery.address_life_s // 2}"
        # without an ETag: a 304 would prolong the life of a redirect, but not that of its target
        return RedirectResponse(address, status_code=302, headers={"cache-control": for_a_while})
    return await _content(request, image, resources.gallery, headers)


async def _content(request: Request, image: StoredImage, gallery: ImageGallery, headers: dict[str, str]) -> Response:
    """The picture, or the part of it that is asked for."""
    try:
        part = _part(request.headers, headers["etag"], image.size_bytes)
    except RangeNotSatisfiable as refusal:
        answer = error_response(refusal, path=request.url.path)
        answer.headers["content-range"] = f"bytes */{image.size_bytes}"
        return answer
    start, stop = part or (0, image.size_bytes)
    headers["content-length"] = str(stop - start)
    if part is not None:
        headers["content-range"] = f"bytes {start}-{stop - 1}/{image.size_bytes}"
    status = 200 if part is None else 206
    if request.method == "HEAD":
        await gallery.require_bytes(image)
        return Response(status_code=status, media_type=image.content_type, headers=headers)
    pieces = await gallery.open(image, start, stop)
    return StreamingResponse(pieces, status_code=status, media_type=image.content_type, headers=headers)


def _part(asked: Headers, etag: str, size_bytes: int) -> tuple[int, int] | None:
    """From and to before which byte. None: the whole. Raises RangeNotSatisfiable."""
    match = _RANGE.fullmatch(asked.get("range", ""))
    if match is None or asked.get("if-range", etag) != etag:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, stop = max(0, size_bytes - int(suffix)), size_bytes
    else:
        start, stop = int(first), min(int(last) + 1, size_bytes) if last else size_bytes
        if last and int(last) < start:
            return None
    if start >= stop:
        raise RangeNotSatisfiable(f"The picture has {size_bytes} bytes; {match[0]} lies outside.")
    return start, stop
