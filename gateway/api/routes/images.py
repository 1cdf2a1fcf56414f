"""`GET /images/{id}.{ext}`: the bytes of a picture. No key is needed: the id can't be guessed."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import FileResponse, Response

from gateway.api.dependencies import ResourcesDep
from gateway.api.error_response import error_response
from gateway.api.schemas import Refusal
from gateway.api.schemas_images import refused
from gateway.errors import DarkroomError

router = APIRouter(tags=["images"])
# One range of bytes. Anything else a server may ignore, and then serves the whole (RFC 9110, section 14.2).
_RANGE = re.compile(r"bytes=(?:([0-9]{1,15})-([0-9]{0,15})|-[0-9]{1,15})")
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}, "image/png": {}, "image/webp": {}}, "description": "The picture."},
    206: {"description": "A part of it, as `Range` asked."},
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
    image, path = await resources.gallery.require(
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
    }
    if if_none_match is not None and _names(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    wanted = request.headers.get("range")
    if wanted is not None and not _valid(wanted):
        request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]
    elif wanted is not None and not _satisfiable(wanted, image.size_bytes):
        refusal = RangeNotSatisfiable(f"The picture has {image.size_bytes} bytes; {wanted[:60]} lies outside.")
        answer = error_response(refusal, path=request.url.path)
        answer.headers["content-range"] = f"bytes */{image.size_bytes}"
        return answer
    return FileResponse(path, media_type=image.content_type, headers=headers)


def _valid(wanted: str) -> bool:
    match = _RANGE.fullmatch(wanted)
    return match is not None and not (match[1] and match[2] and int(match[1]) > int(match[2]))


def _satisfiable(wanted: str, size_bytes: int) -> bool:
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    return int(first) < size_bytes if first else int(last) > 0


def _names(if_none_match: str, etag: str) -> bool:
    """RFC 9110, section 13.1.2: weak comparison, any of a list, or `*`."""
    candidates = {candidate.strip().removeprefix("W/") for candidate in if_none_match.split(",")}
    return etag in candidates or "*" in candidates
