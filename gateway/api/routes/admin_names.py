"""For whoever shows ids to people: what they are called."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from gateway.api.dependencies import ResourcesDep, Seer, require_admin
from gateway.api.schemas import refusals
from gateway.errors import InvalidRequest

router = APIRouter(
    prefix="/admin/v1",
    tags=["accounts"],
    dependencies=[Depends(require_admin)],
    responses=refusals(400, 401, 403, 503),
)
_MOST = 500


class NamedId(BaseModel):
    id: str
    name: str = Field(description="Of a key without a name: its prefix.")


class Names(BaseModel):
    object: str = "list"
    data: list[NamedId]


@router.get("/names")
async def names(
    resources: ResourcesDep,
    admin: Seer,
    ids: Annotated[str, Query(description=f"Ids of teams, users and keys, with commas; {_MOST} at most.")] = "",
) -> Names:
    """What teams, users and keys are called, those included that were deleted. Ids that are not known are left out."""
    wanted = [each.strip() for each in ids.split(",") if each.strip()]
    if len(wanted) > _MOST:
        raise InvalidRequest(f"{len(wanted)} ids are too many: {_MOST} at a time.", param="ids")
    found = await resources.accounts.within(admin.team_id).names(wanted)
    return Names(data=[NamedId(id=each, name=name) for each, name in found.items()])
