"""For administrators: erasing a user."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import Field

from gateway.api.dependencies import ResourcesDep, require_admin, requires
from gateway.api.schemas import Answer, refusals
from gateway.domain.administrator import Administrator, Permission

router = APIRouter(
    prefix="/admin/v1",
    tags=["accounts"],
    dependencies=[Depends(require_admin)],
    responses=refusals(400, 401, 403, 503),
)
Eraser = Annotated[Administrator, requires(Permission.ERASE)]


class ErasureAnswer(Answer):
    """What went. Repeated, it counts what was left since."""

    object: Literal["erasure"] = "erasure"
    user_id: str
    name: str = Field(description="What is shown in place of the user's.")
    keys: int = Field(description="Keys it ever had: deleted, and their names and labels with them.")
    generations: int = Field(description="Purchases whose prompt, answer and pictures went.")
    entries: int = Field(description="Cache entries that went with them.")
    calls: int = Field(description="Rows of the usage log whose tags and labels went.")


@router.post("/users/{user_id}/erase", responses=refusals(404, 409))
async def erase_user(user_id: str, resources: ResourcesDep, admin: Eraser) -> ErasureAnswer:
    """Erase what a user was called, wrote and got, deleted users too. Its id, its numbers and its money stay.

    It can't be undone; it may be repeated.
    """
    return ErasureAnswer.model_validate(await resources.erasure.erase(user_id, actor=admin.actor))
