"""Administration over HTTP: teams, users, keys, their limits, and the audit log."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Depends, Query

from gateway.api.dependencies import AdminDep, ResourcesDep, require_admin
from gateway.api.schemas import (
    AuditAnswer,
    KeyAnswer,
    KeyCreate,
    KeyCreated,
    KeyRotate,
    KeyUpdate,
    LimitAnswer,
    LimitBody,
    ListAnswer,
    TeamAnswer,
    TeamCreate,
    TeamUpdate,
    UserAnswer,
    UserCreate,
    UserUpdate,
    refusals,
)
from gateway.domain.api_key import Mode
from gateway.domain.limits import ScopeKind

router = APIRouter(
    prefix="/admin/v1",
    tags=["accounts"],
    dependencies=[Depends(require_admin)],
    responses=refusals(400, 401, 503),
)
_NOT_FOUND = refusals(404)

Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]
Scopes = Literal["teams", "users", "keys"]

# -- teams --------------------------------------------------------------------------------------------------


@router.post("/teams", status_code=201)
async def create_team(body: TeamCreate, resources: ResourcesDep, admin: AdminDep) -> TeamAnswer:
    return TeamAnswer.model_validate(await resources.accounts.create_team(actor=admin, **body.values()))


@router.get("/teams")
async def list_teams(resources: ResourcesDep, limit: Limit = 100, cursor: Cursor = None) -> ListAnswer[TeamAnswer]:
    page = await resources.accounts.list_teams(limit=limit, cursor=cursor)
    return ListAnswer[TeamAnswer].model_validate(page)


@router.get("/teams/{team_id}", responses=_NOT_FOUND)
async def get_team(team_id: str, resources: ResourcesDep) -> TeamAnswer:
    return TeamAnswer.model_validate(await resources.accounts.get_team(team_id))


@router.patch("/teams/{team_id}", responses=_NOT_FOUND)
async def update_team(team_id: str, body: TeamUpdate, resources: ResourcesDep, admin: AdminDep) -> TeamAnswer:
    team = await resources.accounts.update_team(team_id, body.values(), actor=admin)
    return TeamAnswer.model_validate(team)


@router.delete("/teams/{team_id}", status_code=204, responses=_NOT_FOUND)
async def delete_team(team_id: str, resources: ResourcesDep, admin: AdminDep) -> None:
    """Its users stay in it, and their keys are refused until they are moved. The history stays."""
    await resources.accounts.delete_team(team_id, actor=admin)


# -- users --------------------------------------------------------------------------------------------------


@router.post("/users", status_code=201)
async def create_user(body: UserCreate, resources: ResourcesDep, admin: AdminDep) -> UserAnswer:
    return UserAnswer.model_validate(await resources.accounts.create_user(actor=admin, **body.values()))


@router.get("/users")
async def list_users(
    resources: ResourcesDep, team_id: str | None = None, limit: Limit = 100, cursor: Cursor = None
) -> ListAnswer[UserAnswer]:
    page = await resources.accounts.list_users(team_id=team_id, limit=limit, cursor=cursor)
    return ListAnswer[UserAnswer].model_validate(page)


@router.get("/users/{user_id}", responses=_NOT_FOUND)
async def get_user(user_id: str, resources: ResourcesDep) -> UserAnswer:
    return UserAnswer.model_validate(await resources.accounts.get_user(user_id))


@router.patch("/users/{user_id}", responses=_NOT_FOUND)
async def update_user(user_id: str, body: UserUpdate, resources: ResourcesDep, admin: AdminDep) -> UserAnswer:
    user = await resources.accounts.update_user(user_id, body.values(), actor=admin)
    return UserAnswer.model_validate(user)


@router.delete("/users/{user_id}", status_code=204, responses=_NOT_FOUND)
async def delete_user(user_id: str, resources: ResourcesDep, admin: AdminDep) -> None:
    """Deletes the user's keys with it. The history stays."""
    await resources.accounts.delete_user(user_id, actor=admin)


# -- keys ---------------------------------------------------------------------------------------------------


@router.post("/keys", status_code=201)
async def create_key(body: KeyCreate, resources: ResourcesDep, admin: AdminDep) -> KeyCreated:
    """The answer shows the key this once."""
    made = await resources.accounts.create_key(actor=admin, **body.values())
    return KeyCreated.model_validate(made.key).model_copy(update={"key": made.text})


@router.get("/keys")
async def list_keys(
    resources: ResourcesDep,
    user_id: str | None = None,
    mode: Mode | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> ListAnswer[KeyAnswer]:
    page = await resources.accounts.list_keys(user_id=user_id, mode=mode, limit=limit, cursor=cursor)
    return ListAnswer[KeyAnswer].model_validate(page)


@router.get("/keys/{key_id}", responses=_NOT_FOUND)
async def get_key(key_id: str, resources: ResourcesDep) -> KeyAnswer:
    return KeyAnswer.model_validate(await resources.accounts.get_key(key_id))


@router.patch("/keys/{key_id}", responses=_NOT_FOUND)
async def update_key(key_id: str, body: KeyUpdate, resources: ResourcesDep, admin: AdminDep) -> KeyAnswer:
    key = await resources.accounts.update_key(key_id, body.values(), actor=admin)
    return KeyAnswer.model_validate(key)


@router.delete("/keys/{key_id}", status_code=204, responses=_NOT_FOUND)
async def delete_key(key_id: str, resources: ResourcesDep, admin: AdminDep) -> None:
    """Refused everywhere within seconds. The history stays."""
    await resources.accounts.delete_key(key_id, actor=admin)


@router.post("/keys/{key_id}/rotate", status_code=201, responses=_NOT_FOUND)
async def rotate_key(
    key_id: str, resources: ResourcesDep, admin: AdminDep, body: KeyRotate | None = None
) -> KeyCreated:
    """A new key like the old one, which works on for `overlap_s`. The answer shows the new key this once."""
    overlap_s = (body or KeyRotate()).overlap_s
    made = await resources.accounts.rotate_key(key_id, actor=admin, overlap_s=overlap_s)
    return KeyCreated.model_validate(made.key).model_copy(update={"key": made.text})


# -- limits and the audit log -------------------------------------------------------------------------------


@router.put("/{scopes}/{scope_id}/limits", responses=_NOT_FOUND, response_model_exclude_unset=True)
async def put_limits(
    scopes: Scopes,
    scope_id: str,
    body: Annotated[list[LimitBody], Body(max_length=100)],
    resources: ResourcesDep,
    admin: AdminDep,
) -> list[LimitAnswer]:
    """Replaces all limits set here; what they have used stays."""
    entries = [limit.entry for limit in body]
    limits = await resources.accounts.put_limits(_scope(scopes), scope_id, entries, actor=admin)
    return [LimitAnswer.of(limit) for limit in limits]


@router.get("/{scopes}/{scope_id}/limits", responses=_NOT_FOUND, response_model_exclude_unset=True)
async def get_limits(scopes: Scopes, scope_id: str, resources: ResourcesDep) -> list[LimitAnswer]:
    """Those set here, not those of wider scopes."""
    return [LimitAnswer.of(limit) for limit in await resources.accounts.get_limits(_scope(scopes), scope_id)]


def _scope(scopes: Scopes) -> ScopeKind:
    return ScopeKind(scopes.removesuffix("s"))


@router.get("/audit")
async def list_audit(
    resources: ResourcesDep, object_id: str | None = None, limit: Limit = 100, cursor: Cursor = None
) -> ListAnswer[AuditAnswer]:
    """Every change by an administrator."""
    page = await resources.accounts.list_audit(object_id=object_id, limit=limit, cursor=cursor)
    return ListAnswer[AuditAnswer].model_validate(page)
