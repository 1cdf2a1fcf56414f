"""For administrators: the tags that calls have carried."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.api.dependencies import ResourcesDep, Seer
from gateway.api.schemas import ListAnswer, refusals
from gateway.domain.api_key import Mode

router = APIRouter(prefix="/admin/v1", tags=["usage and cache"], responses=refusals(400, 401, 403, 503))


class TagName(BaseModel):
    tag: str
    values: int = Field(description="How many different ones calls have carried.")


@router.get("/tags")
async def list_tags(resources: ResourcesDep, admin: Seer, mode: Mode = Mode.LIVE) -> ListAnswer[TagName]:
    """By name, in one page. `GET /admin/v1/usage?group_by=tag:NAME` has the values."""
    found = await resources.reports.tags(mode.value, team_id=admin.team_id)
    data = [TagName(tag=tag, values=values) for tag, values in found.items()]
    return ListAnswer(data=data, has_more=False, next_cursor=None)
