"""`GET /v1/usage`: a caller's own spend, pictures, savings, and what is left of each limit."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from gateway.api.dependencies import CallerDep, ResourcesDep
from gateway.api.schemas import Moment, iso_time
from gateway.api.schemas_images import QuoteLimit, limit_body, refused
from gateway.api.schemas_usage import UsageNumbers, numbers
from gateway.resources import month_start_ms

router = APIRouter(tags=["usage"])


class OwnUsage(BaseModel):
    object: str = "usage"
    mode: str
    user_id: str
    key_id: str
    from_: str = Field(serialization_alias="from")
    to: str
    user: UsageNumbers = Field(description="All keys of your user, in this mode.")
    key: UsageNumbers = Field(description="The key you are calling with.")
    limits: list[QuoteLimit]


@router.get("/v1/usage", responses=refused(400, 401, 403, 503), openapi_extra={"security": [{"callerKey": []}]})
async def own_usage(
    caller: CallerDep,
    resources: ResourcesDep,
    from_: Annotated[Moment | None, Query(alias="from", description="Default: the start of this month, UTC.")] = None,
    to: Annotated[Moment | None, Query(description="Default: now. The range is half-open.")] = None,
) -> OwnUsage:
    now_ms = time.time_ns() // 1_000_000 + 1
    start = month_start_ms(now_ms) if from_ is None else from_
    end = now_ms if to is None else to

    async def total(where: dict[str, Any]) -> UsageNumbers:
        mode = caller.mode.value
        report = await resources.reports.report(mode=mode, from_ms=start, to_ms=end, where=where)
        return numbers(report.total)

    return OwnUsage(
        mode=caller.mode.value,
        user_id=caller.user_id,
        key_id=caller.key_id,
        from_=iso_time(start),
        to=iso_time(end),
        user=await total({"user_id": caller.user_id}),
        key=await total({"key_id": caller.key_id}),
        limits=[QuoteLimit(**limit_body(line)) for line in await resources.budgets.of(caller)],
    )
