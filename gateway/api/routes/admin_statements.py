"""For administrators: months that are closed, as JSON and as CSV for cost tools."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from starlette.responses import Response

from gateway.api.dependencies import ResourcesDep, Seer, require_admin, requires
from gateway.api.schemas import ListAnswer, refusals
from gateway.api.schemas_statements import (
    StatementAnswer,
    StatementCreate,
    StatementHead,
    statement_answer,
    statement_csv,
    statement_head,
)
from gateway.domain.administrator import Administrator, Permission
from gateway.domain.api_key import Mode

router = APIRouter(
    prefix="/admin/v1/statements",
    tags=["money"],
    dependencies=[Depends(require_admin)],
    responses=refusals(400, 401, 403, 503),
)
Corrector = Annotated[Administrator, requires(Permission.CORRECT_MONEY)]


@router.post("", status_code=201, responses=refusals(409))
async def close_month(body: StatementCreate, resources: ResourcesDep, admin: Corrector) -> StatementHead:
    """Freeze what a month came to. What reaches it later is carried by the next month's statement."""
    return statement_head(await resources.statements.close(body.month, body.mode, actor=admin.actor))


@router.get("")
async def list_statements(resources: ResourcesDep, admin: Seer, mode: Mode | None = None) -> ListAnswer[StatementHead]:
    """Every closed month, the newest first. A team-admin sees what they cost its team."""
    found = await resources.statements.list(mode=mode, team_id=admin.team_id)
    return ListAnswer(data=[statement_head(statement) for statement in found], has_more=False, next_cursor=None)


@router.get(
    "/{month}",
    response_model=StatementAnswer,
    responses={
        200: {"content": {"text/csv": {}}, "description": "The lines; CSV with FOCUS 1.2's columns."},
        **refusals(404),
    },
)
async def get_statement(
    month: str,
    resources: ResourcesDep,
    admin: Seer,
    mode: Mode = Mode.LIVE,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Any:
    """A closed month, one line for each key, model and provider. A team-admin sees the lines of its team."""
    statement, lines = await resources.statements.get(month, mode, team_id=admin.team_id)
    if "text/csv" in accept:
        return Response(statement_csv(statement, lines), media_type="text/csv")
    return statement_answer(statement, lines)
