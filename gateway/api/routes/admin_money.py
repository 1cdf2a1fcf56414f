"""For administrators: what an unknown purchase cost, corrections, and our books beside the provider's."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Depends

from gateway.api.dependencies import ResourcesDep, Seer, require_admin, requires
from gateway.api.schemas import refusals
from gateway.api.schemas_money import Correction, ReconcileAnswer, ReconcileRequest, reconcile_answer
from gateway.api.schemas_usage import GenerationRow, generation_row
from gateway.domain.administrator import Administrator, Permission
from gateway.domain.books import parse_csv
from gateway.domain.pricing import micro_usd
from gateway.errors import InvalidRequest
from gateway.resources import Resources, month_start_ms

router = APIRouter(
    prefix="/admin/v1",
    tags=["money"],
    dependencies=[Depends(require_admin)],
    responses=refusals(400, 401, 403, 503),
)
Corrector = Annotated[Administrator, requires(Permission.CORRECT_MONEY)]


@router.get("/generations/{generation_id}", responses=refusals(404))
async def get_generation(generation_id: str, resources: ResourcesDep, admin: Seer) -> GenerationRow:
    return generation_row(await resources.receipts.get(generation_id, team_id=admin.team_id))


@router.post("/generations/{generation_id}/settle", responses=refusals(404, 409))
async def settle(generation_id: str, body: Correction, resources: ResourcesDep, admin: Corrector) -> GenerationRow:
    """Say what an `unknown` purchase cost, `0` if it was not bought. The provider's books do this by themselves where
    they can be read.
    """
    cost = micro_usd(body.cost_usd)
    await resources.settlement.settle_by_hand(generation_id, cost, reason=body.reason, actor=admin.actor)
    return generation_row(await resources.receipts.get(generation_id))


@router.post("/generations/{generation_id}/adjust", responses=refusals(404, 409))
async def adjust(generation_id: str, body: Correction, resources: ResourcesDep, admin: Corrector) -> GenerationRow:
    """Correct a settled purchase to what it cost: a row of its own, posted to the limits it was bought under."""
    cost = micro_usd(body.cost_usd)
    await resources.settlement.correct(generation_id, cost, reason=body.reason, actor=admin.actor)
    return generation_row(await resources.receipts.get(generation_id))


@router.post("/reconcile", responses=refusals(404))
async def reconcile(resources: ResourcesDep, admin: Corrector, body: ReconcileRequest | None = None) -> ReconcileAnswer:
    """Our books beside the provider's: what both know, what only one does, what differs. Settles what was unknown."""
    asked = body or ReconcileRequest()
    now_ms = time.time_ns() // 1_000_000
    done = await resources.reconciler.reconcile(
        asked.provider or _only_provider(resources),
        from_ms=month_start_ms(now_ms) if asked.from_ms is None else asked.from_ms,
        to_ms=now_ms + 1 if asked.to_ms is None else asked.to_ms,
        entries=None if asked.csv is None else await asyncio.to_thread(parse_csv, asked.csv),
        adjust=asked.adjust,
        actor=admin.actor,
    )
    return reconcile_answer(done)


def _only_provider(resources: Resources) -> str:
    named = [provider.name for provider in resources.settings.providers if provider.kind != "sandbox"]
    if len(named) != 1:
        raise InvalidRequest(f"Say which provider: {', '.join(named) or 'none is configured'}.", param="provider")
    return named[0]
