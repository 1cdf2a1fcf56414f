"""For administrators: providers, and their keys at run time."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from gateway.api.dependencies import ResourcesDep, require_admin, requires
from gateway.api.schemas import ListAnswer, refusals
from gateway.api.schemas_providers import (
    ProviderAnswer,
    ProviderKeyAnswer,
    ProviderKeyCreate,
    ProviderKeyUpdate,
    Reencrypted,
    key_answer,
)
from gateway.domain.administrator import Administrator, Permission

router = APIRouter(
    prefix="/admin/v1/providers",
    tags=["providers"],
    dependencies=[Depends(require_admin)],
    responses=refusals(400, 401, 403, 503),
)
_NOT_FOUND = refusals(404)
_CONFLICT = refusals(404, 409)
SEES = [requires(Permission.SEE_ALL)]
ProviderManager = Annotated[Administrator, requires(Permission.MANAGE_PROVIDERS)]


@router.get("", dependencies=SEES)
async def list_providers(resources: ResourcesDep) -> ListAnswer[ProviderAnswer]:
    """Those of the configuration, and the sandbox."""
    found = [
        ProviderAnswer(name=name, kind=kind, keys=len(states), usable=usable, open_calls=busy)
        for name, kind, states, usable, busy in resources.provider_keys.providers()
    ]
    return ListAnswer(data=found, has_more=False, next_cursor=None)


@router.post("/reencrypt")
async def reencrypt(resources: ResourcesDep, admin: ProviderManager) -> Reencrypted:
    """Seals with the first of security.encryption_keys what an older one sealed. Safe to repeat."""
    done = await resources.provider_keys.reencrypt(actor=admin.actor) + await resources.webhooks.reencrypt(
        actor=admin.actor
    )
    return Reencrypted(reencrypted=done)


@router.get("/{name}/keys", dependencies=SEES, responses=_NOT_FOUND)
async def list_provider_keys(name: str, resources: ResourcesDep) -> ListAnswer[ProviderKeyAnswer]:
    """Of the configuration and those added at run time, with their state in this process."""
    data = [key_answer(report) for report in resources.provider_keys.list(name)]
    return ListAnswer(data=data, has_more=False, next_cursor=None)


@router.post("/{name}/keys", status_code=201, responses=_CONFLICT)
async def create_provider_key(
    name: str, body: ProviderKeyCreate, resources: ResourcesDep, admin: ProviderManager
) -> ProviderKeyAnswer:
    """The next call may be served by it."""
    made = await resources.provider_keys.create(
        name,
        body.value,
        name=body.name,
        weight=body.weight,
        max_concurrency=body.max_concurrency,
        actor=admin.actor,
    )
    return key_answer(made)


@router.get("/{name}/keys/{key_id}", dependencies=SEES, responses=_NOT_FOUND)
async def get_provider_key(name: str, key_id: str, resources: ResourcesDep) -> ProviderKeyAnswer:
    return key_answer(resources.provider_keys.get(name, key_id))


@router.patch("/{name}/keys/{key_id}", responses=_CONFLICT)
async def update_provider_key(
    name: str, key_id: str, body: ProviderKeyUpdate, resources: ResourcesDep, admin: ProviderManager
) -> ProviderKeyAnswer:
    """Change what is given. A key of the configuration can be disabled and enabled."""
    return key_answer(await resources.provider_keys.update(name, key_id, body.values(), actor=admin.actor))


@router.delete("/{name}/keys/{key_id}", status_code=204, responses=_CONFLICT)
async def delete_provider_key(name: str, key_id: str, resources: ResourcesDep, admin: ProviderManager) -> None:
    """Calls under way with it finish; its secret is erased."""
    await resources.provider_keys.delete(name, key_id, actor=admin.actor)
