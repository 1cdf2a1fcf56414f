"""The one place where refusals become HTTP: the provider's envelope, as a union of what old and new clients read."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from gateway.domain.ids import new_id
from gateway.errors import DarkroomError, InvalidRequest, NotFound

Header = tuple[bytes, bytes]

_NAMES = {
    400: "BadRequestException",
    401: "UnauthorizedException",
    403: "ForbiddenException",
    404: "NotFoundException",
    405: "MethodNotAllowedException",
    408: "RequestTimeoutException",
    409: "ConflictException",
    410: "GoneException",
    413: "PayloadTooLargeException",
    422: "UnprocessableEntityException",
    429: "TooManyRequestsException",
    500: "InternalServerErrorException",
    502: "BadGatewayException",
    503: "ServiceUnavailableException",
    504: "GatewayTimeoutException",
}
_VERSION = "/v1"
_log = structlog.get_logger(__name__)


class MethodNotAllowed(DarkroomError):
    code = "method_not_allowed"
    status = 405
    type = "invalid_request_error"


def error_body(error: DarkroomError, *, request_id: str, path: str) -> bytes:
    """The union of the envelopes (contract: Errors) as JSON bytes."""
    title = HTTPStatus(error.status).phrase
    return msgspec.json.encode(
        {
            "title": title,
            "status": error.status,
            "statusCode": error.status,
            "message": error.message,
            "instance": path,
            "path": path,
            "timestamp": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "requestId": request_id,
            "error": {
                "name": _NAMES.get(error.status, "HttpException"),
                "message": error.message,
                "data": error.detail,
                "code": error.code,
                "type": error.type,
                "param": error.param,
            },
        }
    )


def error_headers(error: DarkroomError) -> list[Header]:
    """`Retry-After` when waiting cures it, `x-should-retry: false` when repeating must not happen."""
    headers: list[Header] = []
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after_s))).encode()))
    if error.should_retry is False:
        headers.append((b"x-should-retry", b"false"))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def error_response(
    error: DarkroomError, *, path: str, request_id: str | None = None, headers: Sequence[Header] = ()
) -> Response:
    request_id = request_id or new_id("req")
    response = Response(
        error_body(error, request_id=request_id, path=path),
        status_code=error.status,
        media_type="application/json",
    )
    response.raw_headers += [*error_headers(error), *headers]
    if not any(name == b"x-request-id" for name, _ in headers):
        response.raw_headers.append((b"x-request-id", request_id.encode()))
    return response


async def handle_error(request: Request, exc: Exception) -> Response:
    """FastAPI's handler of every exception that leaves a route."""
    if isinstance(exc, DarkroomError):
        return error_response(exc, path=request.url.path)
    if isinstance(exc, RequestValidationError):
        return error_response(_invalid(exc), path=request.url.path)
    if isinstance(exc, HTTPException):
        response = error_response(_from_http(exc, request), path=request.url.path)
        for name, value in (exc.headers or {}).items():
            response.headers[name] = value
        return response
    return unexpected_response(exc, path=request.url.path)


def unexpected_response(exc: Exception, *, path: str) -> Response:
    """A defect of ours: 500, and the log has the rest."""
    _log.error("internal_error", path=path, exc_info=exc)
    said = DarkroomError("The gateway failed to handle this call. The log has the details.", should_retry=False)
    return error_response(said, path=path)


def _from_http(exc: HTTPException, request: Request) -> DarkroomError:
    path = request.url.path[:200]
    meant = _meant(request) if exc.status_code in {404, 405} else None
    if meant is not None:
        return NotFound(f"There is nothing to {request.method} at {path}; it is at {meant}. See to the base URL.")
    if exc.status_code == 404:
        return NotFound(f"There is nothing at {path}; /docs says what is where.")
    if exc.status_code == 405:
        allowed = (exc.headers or {}).get("Allow", "")
        return MethodNotAllowed(f"{request.method} is not allowed here; allowed: {allowed}.")
    return InvalidRequest(str(exc.detail))


def _meant(request: Request) -> str | None:
    """Where a call would arrive whose base URL lacks `/v1`, or has it twice."""
    path = request.url.path
    wanted = path.removeprefix(_VERSION) if path.startswith(_VERSION * 2 + "/") else _VERSION + path
    scope = {**request.scope, "path": wanted}
    matches = (route.matches(scope)[0] for route in request.app.routes)
    return wanted if Match.FULL in matches else None


def _invalid(exc: RequestValidationError) -> InvalidRequest:
    """Pydantic's findings in the form of the provider's issues."""
    issues: list[dict[str, Any]] = []
    for error in exc.errors():
        path = [part for part in error["loc"] if part not in {"body", "query", "path"}]
        message = str(error["msg"]).removeprefix("Value error, ")
        issues.append({"path": path, "code": error["type"], "message": message})
    first = issues[0]
    where = ".".join(map(str, first["path"])) or "body"
    param = str(first["path"][0]) if first["path"] else None
    return InvalidRequest(f"Invalid payload provided: {where}: {first['message']}", param=param, data=issues)
