"""Administration over HTTP: teams, users, keys, their limits, and the audit log.

A team-admin works on its team as if there were no other: `accounts.within`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Depends, Query
from msgspec.structs import asdict

from gateway.api.dependencies import ResourcesDep, Seer, require_admin, requires
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
    Name,
    TeamAnswer,
    TeamCreate,
    TeamDetail,
    TeamUpdate,
    UserAnswer,
    UserCreate,
    UserUpdate,
    refusals,
)
from gateway.domain.administrator import Administrator, Permission
from gateway.domain.api_key import Mode
from gateway.domain.limits import ScopeKind
from gateway.resources import AccountService, EventFilter

router = APIRouter(
    prefix="/admin/v1",
    tags=["accounts"],
    dependencies=[Depends(require_admin)],
    responses=refusals(400, 401, 403, 503),
)
_NOT_FOUND = refusals(404)

Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]
Part = Annotated[Name | None, Query(description="A part of a name, an id, an e-mail address or the prefix of a key.")]
Scopes = Literal["teams", "users", "keys"]
AccountManager = Annotated[Administrator, requires(Permission.MANAGE_ACCOUNTS)]
TeamManager = Annotated[Administrator, requires(Permission.MANAGE_TEAMS)]


def _accounts(resources: ResourcesDep, admin: Seer) -> AccountService:
    return resources.accounts.within(admin.team_id)


Accounts = Annotated[AccountService, Depends(_accounts)]
"""Those that the administrator sees."""

# -- teams --------------------------------------------------------------------------------------------------


@router.post("/teams", status_code=201)
async def create_team(body: TeamCreate, accounts: Accounts, admin: TeamManager) -> TeamAnswer:
    return TeamAnswer.model_validate(await accounts.create_team(actor=admin.actor, **body.values()))


@router.get("/teams")
async def list_teams(
    accounts: Accounts, q: Part = None, limit: Limit = 100, cursor: Cursor = None
) -> ListAnswer[TeamAnswer]:
    page = await accounts.list_teams(q=q, limit=limit, cursor=cursor)
    return ListAnswer[TeamAnswer].model_validate(page)


@router.get("/teams/{team_id}", responses=_NOT_FOUND)
async def get_team(team_id: str, accounts: Accounts) -> TeamDetail:
    team, size = await accounts.get_team(team_id)
    return TeamDetail.model_validate({**asdict(team), **size._asdict()})


@router.patch("/teams/{team_id}", responses=_NOT_FOUND)
async def update_team(team_id: str, body: TeamUpdate, accounts: Accounts, admin: TeamManager) -> TeamAnswer:
    team = await accounts.update_team(team_id, body.values(), actor=admin.actor)
    return TeamAnswer.model_validate(team)


@router.delete("/teams/{team_id}", status_code=204, responses=_NOT_FOUND)
async def delete_team(team_id: str, accounts: Accounts, admin: TeamManager) -> None:
    """Its users stay in it, and their keys are refused until they are moved. The history stays."""
    await accounts.delete_team(team_id, actor=admin.actor)


# -- users --------------------------------------------------------------------------------------------------


@router.post("/users", status_code=201)
async def create_user(body: UserCreate, accounts: Accounts, admin: AccountManager) -> UserAnswer:
    return UserAnswer.model_validate(await accounts.create_user(actor=admin.actor, **body.values()))


@router.get("/users")
async def list_users(
    accounts: Accounts,
    admin: Seer,
    team_id: str | None = None,
    q: Part = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> ListAnswer[UserAnswer]:
    page = await accounts.list_users(team_id=admin.team(team_id), q=q, limit=limit, cursor=cursor)
    return ListAnswer[UserAnswer].model_validate(page)


@router.get("/users/{user_id}", responses=_NOT_FOUND)
async def get_user(user_id: str, accounts: Accounts) -> UserAnswer:
    return UserAnswer.model_validate(await accounts.get_user(user_id))


@router.patch("/users/{user_id}", responses=_NOT_FOUND)
async def update_user(user_id: str, body: UserUpdate, accounts: Accounts, admin: AccountManager) -> UserAnswer:
    user = await accounts.update_user(user_id, body.values(), actor=admin.actor)
    return UserAnswer.model_validate(user)


@router.delete("/users/{user_id}", status_code=204, responses=_NOT_FOUND)
async def delete_user(user_id: str, accounts: Accounts, admin: AccountManager) -> None:
    """Deletes the user's keys with it. The history stays."""
    await accounts.delete_user(user_id, actor=admin.actor)


# -- keys ---------------------------------------------------------------------------------------------------


@router.post("/keys", status_code=201, responses=refusals(409))
async def create_key(body: KeyCreate, accounts: Accounts, admin: AccountManager) -> KeyCreated:
    """The answer shows the key this once. Refused for a user whose team was deleted: it would not work."""
    made = await accounts.create_key(actor=admin.actor, **body.values())
    return KeyCreated.model_validate(made.key).model_copy(update={"key": made.text})


@router.get("/keys")
async def list_keys(
    accounts: Accounts,
    admin: Seer,
    user_id: str | None = None,
    team_id: Annotated[str | None, Query(description="Of the users of a team.")] = None,
    mode: Mode | None = None,
    q: Part = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> ListAnswer[KeyAnswer]:
    page = await accounts.list_keys(
        user_id=user_id, team_id=admin.team(team_id), mode=mode, q=q, limit=limit, cursor=cursor
    )
    return ListAnswer[KeyAnswer].model_validate(page)


@router.get("/keys/{key_id}", responses=_NOT_FOUND)
async def get_key(key_id: str, accounts: Accounts) -> KeyAnswer:
    return KeyAnswer.model_validate(await accounts.get_key(key_id))


@router.patch("/keys/{key_id}", responses=_NOT_FOUND)
async def update_key(key_id: str, body: KeyUpdate, accounts: Accounts, admin: AccountManager) -> KeyAnswer:
    key = await accounts.update_key(key_id, body.values(), actor=admin.actor)
    return KeyAnswer.model_validate(key)


@router.delete("/keys/{key_id}", status_code=204, responses=_NOT_FOUND)
async def delete_key(key_id: str, accounts: Accounts, admin: AccountManager) -> None:
    """Refused everywhere within seconds. The history stays."""
    await accounts.delete_key(key_id, actor=admin.actor)


@router.post("/keys/{key_id}/rotate", status_code=201, responses=refusals(404, 409))
async def rotate_key(
    key_id: str, accounts: Accounts, admin: AccountManager, body: KeyRotate | None = None
) -> KeyCreated:
    """A new key like the old one, which works on for `overlap_s`. The answer shows the new key this once."""
    overlap_s = (body or KeyRotate()).overlap_s
    made = await accounts.rotate_key(key_id, actor=admin.actor, overlap_s=overlap_s)
    return KeyCreated.model_validate(made.key).model_copy(update={"key": made.text})


# -- limits and the audit log -------------------------------------------------------------------------------


@router.put("/{scopes}/{scope_id}/limits", responses=_NOT_FOUND, response_model_exclude_unset=True)
async def put_limits(
    scopes: Scopes,
    scope_id: str,
    body: Annotated[list[LimitBody], Body(max_length=100)],
    accounts: Accounts,
    admin: AccountManager,
) -> list[LimitAnswer]:
    """Replaces all limits set here; what they have used stays."""
    if scopes == "teams":
        admin.require(Permission.MANAGE_TEAMS)
    entries = [limit.entry for limit in body]
    limits = await accounts.put_limits(_scope(scopes), scope_id, entries, actor=admin.actor)
    return [LimitAnswer.of(limit) for limit in limits]


@router.get("/{scopes}/{scope_id}/limits", responses=_NOT_FOUND, response_model_exclude_unset=True)
async def get_limits(scopes: Scopes, scope_id: str, accounts: Accounts) -> list[LimitAnswer]:
    """Those set here, not those of wider scopes."""
    return [LimitAnswer.of(limit) for limit in await accounts.get_limits(_scope(scopes), scope_id)]


def _scope(scopes: Scopes) -> ScopeKind:
    return ScopeKind(scopes.removesuffix("s"))


@router.get("/audit")
async def list_audit(
    accounts: Accounts,
    admin: Seer,
    object_id: str | None = None,
    actor: Annotated[Name | None, Query(description="As the events have it, or an administrator's id alone.")] = None,
    action: Annotated[Name | None, Query(description="Object and verb, like `key.create`.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> ListAnswer[AuditAnswer]:
    """Every change by an administrator. A team-admin is shown its own, and those of its team, users and keys."""
    chosen = EventFilter(object_id=object_id, actor=actor, action=action, team_id=admin.team_id, own_id=admin.id)
    page = await accounts.list_audit(chosen, limit=limit, cursor=cursor)
    return ListAnswer[AuditAnswer].model_validate(page)
