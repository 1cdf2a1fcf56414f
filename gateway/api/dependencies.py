"""What routes are given: the resources, the caller, the administrator and what it may do."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import SecurityScopes

from gateway.domain.administrator import Administrator, Permission
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


SIGNED_IN = "darkroom.signed_in"
"""In the ASGI scope: the Administrator or the Caller of a call that was let in elsewhere in this process, in place of a
bearer. No header reaches the scope under this name, so nothing from outside can set it.
"""


async def get_caller(request: Request, resources: ResourcesDep) -> Caller:
    signed_in = request.scope.get(SIGNED_IN)
    if isinstance(signed_in, Caller):
        return signed_in
    return await resources.callers.authenticate(bearer(request.headers.get("authorization")))


CallerDep = Annotated[Caller, Depends(get_caller)]


async def require_admin(request: Request, resources: ResourcesDep) -> Administrator:
    """Whoever administers. Raises InvalidApiKey and KeyDisabled."""
    signed_in = request.scope.get(SIGNED_IN)
    if isinstance(signed_in, Administrator):
        return signed_in
    return await resources.administrators.authenticate(bearer(request.headers.get("authorization")))


async def _permitted(
    admin: Annotated[Administrator, Depends(require_admin)], permissions: SecurityScopes
) -> Administrator:
    for name in permissions.scopes:
        admin.require(Permission[name])
    return admin


def requires(permission: Permission) -> Any:
    """For a route's parameter: the administrator, once its role allows this. Raises Forbidden.

    Every route of administration has one; a test finds those that have none.
    """
    return Security(_permitted, scopes=[permission.name])


Seer = Annotated[Administrator, requires(Permission.SEE)]
SeerOfAll = Annotated[Administrator, requires(Permission.SEE_ALL)]
