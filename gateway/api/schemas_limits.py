"""Limits beside what is used of them, as administrators read them."""

from __future__ import annotations

from pydantic import Field

from gateway.api.schemas import LimitAnswer, iso_time
from gateway.domain.limits import Limit
from gateway.resources import AppliedLimit, LimitInUse


class LimitUse(LimitAnswer):
    """Concurrency is `used` by the purchases under way, and reserves nothing."""

    scope: str
    scope_id: str
    name: str = Field(description="Of the team or the user; of a key its name or its prefix.")
    used: str | None = Field(description="null: a rate, which is free again within the hour.")
    reserved: str | None = Field(description="Held by purchases under way.")
    left: str | None
    percent: float | None = Field(description="What is used or reserved of it, rounded down to tenths.")
    resets_at: str | None = Field(description="null: never.")


class AppliedLimitUse(LimitUse):
    inherited: bool = Field(description="From a wider scope, or from the defaults of the settings.")


def limit_use(line: LimitInUse) -> LimitUse:
    return LimitUse.model_validate(_fields(line.limit, line.name, line))


def applied_limit_use(applied: AppliedLimit) -> AppliedLimitUse:
    fields = _fields(applied.limit, applied.name, applied.use)
    return AppliedLimitUse.model_validate({**fields, "inherited": applied.inherited})


def _fields(limit: Limit, name: str, use: LimitInUse | None) -> dict[str, object]:
    return {
        "scope": limit.scope.value,
        "scope_id": limit.scope_id,
        "name": name,
        "metric": limit.metric,
        "window": limit.window or None,
        "amount": limit.shown(limit.amount),
        "alert_at": limit.alert_at,
        "used": None if use is None else limit.shown(use.used),
        "reserved": None if use is None else limit.shown(use.reserved),
        "left": None if use is None else limit.shown(use.left),
        "percent": None if use is None else use.percent,
        "resets_at": None if use is None or use.reset_ms is None else iso_time(use.reset_ms),
    }
