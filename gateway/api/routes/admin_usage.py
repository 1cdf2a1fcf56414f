"""For administrators: who spends what, every call, every purchase, and the cache."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from gateway.api.dependencies import ResourcesDep, Seer, require_admin, requires
from gateway.api.schemas import ListAnswer, Moment, Name, RequestBody, iso_time, refusals
from gateway.api.schemas_usage import (
    GenerationRow,
    RequestRow,
    UsageReport,
    generation_row,
    report_answer,
    report_csv,
    request_row,
)
from gateway.domain.administrator import Administrator, Permission
from gateway.domain.api_key import Mode
from gateway.errors import Forbidden, InvalidRequest
from gateway.resources import PurgeFilter, month_start_ms

router = APIRouter(
    prefix="/admin/v1",
    tags=["usage and cache"],
    dependencies=[Depends(require_admin)],
    responses=refusals(400, 401, 403, 503),
)
Outcome = Literal["hit", "joined", "repeated", "bought", "refused", "failed", "settlement", "adjustment"]
From = Annotated[Moment | None, Query(alias="from", description="ISO 8601 or Unix seconds.")]
To = Annotated[Moment | None, Query(description="The range is half-open.")]
Limit = Annotated[int, Query(ge=1, le=1000)]
Tag = Annotated[str | None, Query(max_length=200, description="`NAME:VALUE`: calls that carry this tag alone.")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]
Only = Annotated[Name | None, Query(description="That alone.")]
Purger = Annotated[Administrator, requires(Permission.PURGE)]


@router.get(
    "/usage",
    response_model=UsageReport,
    responses={200: {"content": {"text/csv": {}}, "description": "Sums by group and bucket."}},
)
async def usage(
    resources: ResourcesDep,
    admin: Seer,
    group_by: Annotated[
        str, Query(description="user, team, key, model, provider, tag:NAME, label:NAME; several with commas.")
    ] = "",
    bucket: Literal["hour", "day", "month"] | None = None,
    from_: From = None,
    to: To = None,
    mode: Mode = Mode.LIVE,
    user_id: Only = None,
    team_id: Only = None,
    key_id: Only = None,
    model: Only = None,
    provider: Only = None,
    tag: Tag = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Any:
    """Spend, pictures and savings. Without `from`: this month, UTC."""
    now_ms = time.time_ns() // 1_000_000 + 1
    chosen = {
        "user_id": user_id,
        "team_id": admin.team(team_id),
        "key_id": key_id,
        "model": model,
        "provider": provider,
    }
    groups = [name.strip() for name in group_by.split(",") if name.strip()]
    report = await resources.reports.report(
        mode=mode.value,
        group_by=groups,
        bucket=bucket,
        from_ms=month_start_ms(now_ms) if from_ is None else from_,
        to_ms=_next_hour(now_ms) if to is None else to,
        where={name: value for name, value in chosen.items() if value is not None},
        tag=_pair(tag),
    )
    if "text/csv" in accept:
        return Response(report_csv(report, groups), media_type="text/csv")
    return report_answer(report)


@router.get("/requests")
async def list_requests(
    resources: ResourcesDep,
    admin: Seer,
    user_id: str | None = None,
    team_id: str | None = None,
    key_id: str | None = None,
    model: str | None = None,
    provider: str | None = None,
    outcome: Outcome | None = None,
    status_class: Literal["2xx", "4xx", "5xx"] | None = None,
    code: Annotated[str | None, Query(description="Of a refusal, like `quota_exceeded`.")] = None,
    generation_id: Annotated[
        str | None, Query(description="Calls that bought or shared it; hits are left out.")
    ] = None,
    tag: Tag = None,
    mode: Mode | None = None,
    from_: From = None,
    to: To = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> ListAnswer[RequestRow]:
    """The usage log, newest first: one row a call, and one for each settlement and adjustment of money."""
    page = await resources.reports.requests(
        user_id=user_id,
        team_id=admin.team(team_id),
        key_id=key_id,
        model=model,
        provider=provider,
        outcome=outcome,
        status_class=None if status_class is None else int(status_class[0]),
        code=code,
        generation_id=generation_id,
        tag=_pair(tag),
        mode=mode,
        from_ms=from_,
        to_ms=to,
        limit=limit,
        cursor=cursor,
    )
    data = [request_row(row) for row in page.data]
    return ListAnswer(data=data, has_more=page.has_more, next_cursor=page.next_cursor)


@router.get("/generations")
async def list_generations(
    resources: ResourcesDep,
    admin: Seer,
    status: Literal["pending", "sent", "answered", "succeeded", "failed", "unknown"] | None = None,
    user_id: str | None = None,
    team_id: str | None = None,
    mode: Mode | None = None,
    from_: From = None,
    to: To = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> ListAnswer[GenerationRow]:
    """Purchases, newest first."""
    page = await resources.receipts.list(
        status=status,
        user_id=user_id,
        team_id=admin.team(team_id),
        mode=mode,
        from_ms=from_,
        to_ms=to,
        limit=limit,
        cursor=cursor,
    )
    data = [generation_row(row) for row in page.data]
    return ListAnswer(data=data, has_more=page.has_more, next_cursor=page.next_cursor)


class CacheModel(BaseModel):
    mode: str
    model: str
    entries: int
    oldest_at: str
    newest_at: str


class CacheMemory(BaseModel):
    entries: int
    size_bytes: int


class CacheStats(BaseModel):
    object: str = "cache"
    entries: int
    by_model: list[CacheModel]
    memory: CacheMemory = Field(description="What this process holds in memory.")


class PurgeRequest(RequestBody):
    """What to purge: entries that match every field given. `{}` is refused: say `before` now to purge all."""

    model: Name | None = None
    fingerprint: Name | None = None
    user_id: Name | None = None
    before_ms: Moment | None = Field(None, alias="before")


class PurgeAnswer(BaseModel):
    object: str = "purge"
    purged: int


@router.get("/cache", dependencies=[requires(Permission.SEE_ALL)])
async def cache_stats(resources: ResourcesDep) -> CacheStats:
    stats = await resources.cache.stats()
    by_model = [
        CacheModel(
            mode=row["mode"],
            model=row["model"],
            entries=row["entries"],
            oldest_at=iso_time(row["oldest_ms"]),
            newest_at=iso_time(row["newest_ms"]),
        )
        for row in stats.by_model
    ]
    memory = CacheMemory(entries=stats.memory_entries, size_bytes=stats.memory_bytes)
    return CacheStats(entries=stats.entries, by_model=by_model, memory=memory)


@router.post("/cache/purge", responses=refusals(404))
async def purge_cache(body: PurgeRequest, resources: ResourcesDep, admin: Purger) -> PurgeAnswer:
    """Entries and their pictures go; addresses handed out answer 410. The bytes follow an hour later.

    A team-admin names a user of its team or a fingerprint; what other teams bought stays.
    """
    values = {name: value for name, value in body.values().items() if value is not None}
    if not values:
        raise InvalidRequest(
            "Say what to purge: model, fingerprint, user_id or before. `before` now purges everything.",
            param="model",
        )
    if admin.team_id is not None:
        if body.user_id is not None:
            await resources.accounts.within(admin.team_id).get_user(body.user_id)
        elif body.fingerprint is None:
            raise Forbidden("Name a user of your team, or a fingerprint: the cache is everybody's.", param="user_id")
    chosen = PurgeFilter(**values, team_id=admin.team_id)
    purged = await resources.cache.purge(chosen, actor=admin.actor, detail=values)
    return PurgeAnswer(purged=purged)


def _pair(tag: str | None) -> tuple[str, str] | None:
    if tag is None:
        return None
    name, colon, value = tag.partition(":")
    if not colon:
        raise InvalidRequest("Write a tag with its value, like app:search.", param="tag")
    return name, value


def _next_hour(now_ms: int) -> int:
    """Whole hours can be answered from the totals."""
    return now_ms - now_ms % 3_600_000 + 3_600_000
