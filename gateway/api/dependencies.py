"""What routes are given: the resources, the caller, the administrator."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends, Request

from gateway.domain.caller import Caller
from gateway.errors import InvalidApiKey
from gateway.resources import Resources


def get_resources(request: Request) -> Resources:
    """The one graph of pools and services, opened by the application's lifespan."""
    resources: Resources = request.app.state.resources
    return resources


ResourcesDep = Annotated[Resources, Depends(get_resources)]


def no_key() -> InvalidApiKey:
    return InvalidApiKey("Send a key in the header `Authorization: Bearer dk_...`.")


def bearer(authorization: str | None) -> str:
    """The token of an `Authorization: Bearer` header. Raises InvalidApiKey."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise no_key()
    return token.strip()


async def get_caller(request: Request, resources: ResourcesDep) -> Caller:
    return await resources.callers.authenticate(bearer(request.headers.get("authorization")))


CallerDep = Annotated[Caller, Depends(get_caller)]


def require_admin(request: Request, resources: ResourcesDep) -> str:
    """The administrator's name for the audit trail. Raises InvalidApiKey; the comparison takes constant time."""
    token = bearer(request.headers.get("authorization"))
    if not hmac.compare_digest(token.encode(), resources.admin_key.encode()):
        raise InvalidApiKey("The admin key is wrong. It is security.admin_key, or the file admin_key in data_dir.")
    return "admin"


AdminDep = Annotated[str, Depends(require_admin)]
