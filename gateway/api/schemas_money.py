"""Settlements, adjustments and reconciliations as administrators send and get them."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema

from gateway.api.schemas import Moment, Name, RequestBody, iso_time
from gateway.domain.pricing import micro_usd, usd
from gateway.resources import BookEntry, Reconciliation


def _dollars(value: Decimal) -> Decimal:
    micro_usd(value)  # raises ValueError, and says why
    return value


Dollars = Annotated[
    Decimal, AfterValidator(_dollars), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]})
]
_LISTED = 1000


class Correction(RequestBody):
    """What a purchase cost, whatever is on the books now."""

    cost_usd: Dollars
    reason: Name


class ReconcileRequest(RequestBody):
    provider: Name | None = Field(None, description="null: the one that is no sandbox, if there is one alone.")
    from_ms: Moment | None = Field(None, alias="from", description="null: the first of this month, UTC.")
    to_ms: Moment | None = Field(None, alias="to", description="null: now.")
    csv: str | None = Field(
        None,
        description="An export in place of the provider's logs: a header line, then `created`, `client_request_id`, "
        "`cost_usd` or `credits`, and `status`, `model`, `request_id`, `inference_id` where there are any.",
    )
    adjust: bool = Field(False, description="Post an adjustment for each amount that differs.")


class OursOnly(BaseModel):
    id: str
    status: str
    sent_at: str
    cost_usd: str | None


class TheirsOnly(BaseModel):
    client_request_id: str | None
    request_id: str | None
    inference_id: str | None
    created_at: str
    model: str | None
    cost_usd: str


class Differing(BaseModel):
    id: str
    ours_usd: str
    theirs_usd: str


class ReconcileAnswer(BaseModel):
    """Lists are cut at 1000; the counts are whole."""

    object: str = "reconciliation"
    provider: str
    from_: str = Field(serialization_alias="from")
    to: str
    drift: bool = Field(description="Whether the books differ.")
    matched: int
    settled: int = Field(description="Unknown outcomes that the books settled in passing.")
    adjusted: int
    ours_usd: str
    theirs_usd: str
    ours_only_count: int
    ours_only: list[OursOnly]
    theirs_only_count: int
    theirs_only: list[TheirsOnly]
    differing_count: int
    differing: list[Differing]
    open_count: int = Field(description="Not settled yet, or too young for the provider's books: no drift.")
    open: list[OursOnly]


def reconcile_answer(done: Reconciliation) -> ReconcileAnswer:
    found = done.found
    return ReconcileAnswer(
        provider=done.provider,
        from_=iso_time(done.from_ms),
        to=iso_time(done.to_ms),
        drift=found.drift,
        matched=found.matched,
        settled=done.settled,
        adjusted=done.adjusted,
        ours_usd=usd(found.ours_micro_usd),
        theirs_usd=usd(found.theirs_micro_usd),
        ours_only_count=len(found.ours_only),
        ours_only=[_ours(own.id, own.status, own.sent_ms, own.cost_micro_usd) for own in found.ours_only[:_LISTED]],
        theirs_only_count=len(found.theirs_only),
        theirs_only=[_theirs(entry) for entry in found.theirs_only[:_LISTED]],
        differing_count=len(found.differing),
        differing=[
            Differing(id=each.id, ours_usd=usd(each.ours_micro_usd), theirs_usd=usd(each.theirs_micro_usd))
            for each in found.differing[:_LISTED]
        ],
        open_count=len(found.open),
        open=[_ours(own.id, own.status, own.sent_ms, own.cost_micro_usd) for own in found.open[:_LISTED]],
    )


def _ours(generation_id: str, status: str, sent_ms: int, cost_micro_usd: int | None) -> OursOnly:
    cost = None if cost_micro_usd is None else usd(cost_micro_usd)
    return OursOnly(id=generation_id, status=status, sent_at=iso_time(sent_ms), cost_usd=cost)


def _theirs(entry: BookEntry) -> TheirsOnly:
    return TheirsOnly(
        client_request_id=entry.client_request_id,
        request_id=entry.request_id,
        inference_id=entry.inference_id,
        created_at=iso_time(entry.created_ms),
        model=entry.model,
        cost_usd=usd(entry.cost_micro_usd),
    )
