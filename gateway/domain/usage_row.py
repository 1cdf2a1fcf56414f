"""One call as a row of the usage log."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.errors import DarkroomError


class UsageRow(msgspec.Struct, frozen=True, array_like=True):
    """Fields are the columns of the log, in its order. New ones go last and have a default: a journal that an earlier
    version left is read too.

    `outcome`: hit, joined, repeated, bought, refused or failed; settlement and adjustment are money alone, no call.
    Money in micro-dollars; a cost of None is not known yet.
    """

    at_ms: int
    id: str
    mode: str
    key_id: str
    user_id: str
    team_id: str | None
    model: str | None
    provider: str | None
    outcome: str
    status: int
    code: str | None
    images: int
    cost_micro_usd: int | None
    saved_micro_usd: int
    latency_us: int
    generation_id: str | None
    tags: Mapping[str, str] | None = None
    labels: Mapping[str, str] | None = None


def failed_row(row: UsageRow, error: DarkroomError, *, cost_micro_usd: int | None) -> UsageRow:
    """The buyer's row of a purchase that brought no picture."""
    return msgspec.structs.replace(
        row, outcome="failed", status=error.status, code=error.code, cost_micro_usd=cost_micro_usd
    )
