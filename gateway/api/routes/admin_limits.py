"""For administrators: what is used of limits."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from gateway.api.dependencies import ResourcesDep, Seer
from gateway.api.schemas import ListAnswer, refusals
from gateway.api.schemas_limits import AppliedLimitUse, LimitUse, applied_limit_use, limit_use
from gateway.domain.api_key import Mode
from gateway.domain.limits import ScopeKind

router = APIRouter(prefix="/admin/v1", tags=["accounts"], responses=refusals(400, 401, 403, 503))


@router.get("/limits")
async def list_limits(
    resources: ResourcesDep,
    admin: Seer,
    mode: Mode = Mode.LIVE,
    scope: ScopeKind | None = None,
    near: Annotated[float, Query(ge=0, le=100, description="Those that are used up to so many percent.")] = 0,
    team_id: Annotated[str | None, Query(description="Its own and those of its users and keys.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> ListAnswer[LimitUse]:
    """Limits with what is used of them, the fullest first, in one page.

    Those set at teams, users and keys, and the defaults of the settings of users who have used some of them. Limits of
    requests a minute or hour are left out: they are free again within the hour.
    """
    team = admin.team(team_id)
    page = await resources.limit_usage.fullest(mode=mode.value, scope=scope, team_id=team, near=near, limit=limit)
    return ListAnswer(data=[limit_use(line) for line in page.data], has_more=page.has_more, next_cursor=None)


@router.get("/{scopes}/{scope_id}/limits/usage", responses=refusals(404))
async def limits_of(
    scopes: Literal["teams", "users", "keys"],
    scope_id: str,
    resources: ResourcesDep,
    admin: Seer,
    mode: Mode = Mode.LIVE,
) -> list[AppliedLimitUse]:
    """All limits that apply here, those of wider scopes and the defaults included, the widest first."""
    scope = ScopeKind(scopes.removesuffix("s"))
    found = await resources.limit_usage.of(scope, scope_id, mode=mode.value, team_id=admin.team_id)
    return [applied_limit_use(applied) for applied in found]
