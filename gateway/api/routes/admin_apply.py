"""Accounts as a file declares them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from gateway.api.dependencies import ResourcesDep, require_admin, requires
from gateway.api.schemas import refusals
from gateway.api.schemas_apply import ApplyAnswer, ApplyBody, ChangeAnswer
from gateway.domain.administrator import Administrator, Permission

router = APIRouter(
    prefix="/admin/v1",
    tags=["accounts"],
    dependencies=[Depends(require_admin)],
    responses=refusals(400, 401, 403, 409, 503),
)
TeamManager = Annotated[Administrator, requires(Permission.MANAGE_TEAMS)]


@router.post("/apply")
async def apply(body: ApplyBody, resources: ResourcesDep, admin: TeamManager) -> ApplyAnswer:
    """Bring teams, users, keys and limits to what a file declares, in one transaction, and say what differed.

    Applied again it changes nothing. What a file declares is changed by it alone: elsewhere that is a 409.
    """
    changes = await resources.declarations.apply(
        body.declaration(), actor=admin.actor, prune=body.prune, dry_run=body.dry_run
    )
    answers = [ChangeAnswer.model_validate(change) for change in changes]
    return ApplyAnswer(source=body.source, dry_run=body.dry_run, changes=answers)
