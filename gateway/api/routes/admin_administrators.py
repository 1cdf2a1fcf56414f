"""For owners: who else administers. And for everyone: who am I, and what may I do."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from gateway.api.dependencies import ResourcesDep, Seer, require_admin, requires
from gateway.api.schemas import ListAnswer, Name, refusals
from gateway.api.schemas_administrators import (
    AdministratorAnswer,
    AdministratorCreate,
    AdministratorCreated,
    AdministratorUpdate,
    Me,
)
from gateway.domain.administrator import Administrator, Permission

router = APIRouter(
    prefix="/admin/v1",
    tags=["administrators"],
    dependencies=[Depends(require_admin)],
    responses=refusals(400, 401, 403, 503),
)
_NOT_FOUND = refusals(404)
_CONFLICT = refusals(404, 409)
SEES = [requires(Permission.MANAGE_ADMINISTRATORS)]
Owner = Annotated[Administrator, requires(Permission.MANAGE_ADMINISTRATORS)]


@router.get("/me")
async def me(admin: Seer) -> Me:
    return Me.of(admin)


@router.post("/administrators", status_code=201)
async def create_administrator(
    body: AdministratorCreate, resources: ResourcesDep, admin: Owner
) -> AdministratorCreated:
    """The answer shows its key this once."""
    made = await resources.administrators.create(actor=admin.actor, **body.values())
    return AdministratorCreated.model_validate(made.administrator).model_copy(update={"key": made.text})


@router.get("/administrators", dependencies=SEES)
async def list_administrators(
    resources: ResourcesDep,
    q: Annotated[Name | None, Query(description="A part of a name, an id or the prefix of a key.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
) -> ListAnswer[AdministratorAnswer]:
    """All but the holder of the configuration's key, who is an owner by it."""
    page = await resources.administrators.list(q=q, limit=limit, cursor=cursor)
    return ListAnswer[AdministratorAnswer].model_validate(page)


@router.get("/administrators/{administrator_id}", dependencies=SEES, responses=_NOT_FOUND)
async def get_administrator(administrator_id: str, resources: ResourcesDep) -> AdministratorAnswer:
    return AdministratorAnswer.model_validate(await resources.administrators.get(administrator_id))


@router.patch("/administrators/{administrator_id}", responses=_CONFLICT)
async def update_administrator(
    administrator_id: str, body: AdministratorUpdate, resources: ResourcesDep, admin: Owner
) -> AdministratorAnswer:
    """Change what is given. Of itself an administrator changes its name alone."""
    row = await resources.administrators.update(administrator_id, body.values(), by=admin)
    return AdministratorAnswer.model_validate(row)


@router.delete("/administrators/{administrator_id}", status_code=204, responses=_CONFLICT)
async def delete_administrator(administrator_id: str, resources: ResourcesDep, admin: Owner) -> None:
    """Its key is refused from now on. What it did stays in the audit log."""
    await resources.administrators.delete(administrator_id, by=admin)


@router.post("/administrators/{administrator_id}/rotate", status_code=201, responses=_NOT_FOUND)
async def rotate_administrator(administrator_id: str, resources: ResourcesDep, admin: Owner) -> AdministratorCreated:
    """A new key under the same id, shown this once; the old one is refused from now on."""
    made = await resources.administrators.rotate(administrator_id, actor=admin.actor)
    return AdministratorCreated.model_validate(made.administrator).model_copy(update={"key": made.text})
