"""Limits: a metric and a window at a scope; window arithmetic, GCRA, and the refusal that names all of it."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import msgspec

from gateway.domain.pricing import MAX_MICRO_USD, micro_usd, usd
from gateway.errors import BudgetExhausted, LimitExceeded, QuotaExceeded, RateLimitExceeded


class Metric(StrEnum):
    REQUESTS = "requests"
    IMAGES = "images"
    MEGAPIXELS = "megapixels"
    COST_USD = "cost_usd"
    CONCURRENCY = "concurrency"


class Window(StrEnum):
    """UTC calendar windows, but for requests a minute or an hour, which roll (GCRA). NONE goes with concurrency."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    TOTAL = "total"
    NONE = ""


class ScopeKind(StrEnum):
    """In the order in which limits are taken: the widest first, so that all writers lock in one order."""

    TEAM = "team"
    USER = "user"
    KEY = "key"


MOST_ALERTS = 5
SHORT_WINDOWS = frozenset({Window.MINUTE, Window.HOUR})
SECONDS = {Window.MINUTE: 60, Window.HOUR: 3600}
_DAY_S = 86_400
_WINDOW_S = {
    Window.MINUTE: ";w=60",
    Window.HOUR: ";w=3600",
    Window.DAY: f";w={_DAY_S}",
    Window.MONTH: f";w={30 * _DAY_S}",
    Window.TOTAL: "",
    Window.NONE: "",
}


@dataclass(frozen=True, slots=True, order=True)
class Limit:
    """`amount` counts requests, images, megapixels or purchases under way; micro-dollars for cost_usd.

    `alert_at`: the shares of it, in percent, that are told to webhooks when they are used. Two limits that differ in
    those alone are equal.
    `is_rate`: taken by GCRA at admission, over `period_s` seconds. `policy`: as callers read it
    (draft-ietf-httpapi-ratelimit-headers-10). The derived fields are made once, for calls by the thousand.
    """

    scope: ScopeKind
    scope_id: str
    metric: Metric
    window: Window
    amount: int
    alert_at: tuple[int, ...] = field(default=(), compare=False)
    name: str = field(init=False, compare=False, repr=False)
    is_rate: bool = field(init=False, compare=False, repr=False)
    period_s: int = field(init=False, compare=False, repr=False)
    policy: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        name = f"{self.scope}-{self.metric}" + (f"-{self.window}" if self.window else "")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "is_rate", self.metric is Metric.REQUESTS and self.window in SHORT_WINDOWS)
        object.__setattr__(self, "period_s", SECONDS.get(self.window, 0))
        object.__setattr__(self, "policy", f'"{name}";q={self.amount}{_WINDOW_S[self.window]}')

    def crossed(self, used: int) -> tuple[int, ...]:
        """Those of `alert_at` that are reached. A limit of 0 only forbids: it is never used up."""
        return tuple(percent for percent in self.alert_at if self.amount and used * 100 >= percent * self.amount)

    def shown(self, amount: int) -> str:
        """An amount of this metric as callers read it: dollars for money, else a whole number."""
        return usd(amount) if self.metric is Metric.COST_USD else str(amount)


class DefaultLimit(NamedTuple):
    """What every user gets unless it has its own of the same metric and window. The amount is as `Limit` has it."""

    metric: Metric
    window: Window
    amount: int
    alert_at: tuple[int, ...] = ()

    def of(self, user_id: str) -> Limit:
        return Limit(ScopeKind.USER, user_id, *self)


def parse_amount(metric: Metric, amount: str | float) -> int:
    """A limit's amount from its outer form. Raises ValueError with what would be right."""
    text = str(amount)
    if metric is Metric.COST_USD:
        return micro_usd(text)
    if not text.isascii() or not text.isdigit() or int(text) > MAX_MICRO_USD:
        raise ValueError(f"{text!r} is not an amount of {metric}: give a whole number, 0 or more")
    return int(text)


def check_window(metric: Metric, window: Window) -> None:
    """Concurrency has no window, every other metric has one. Raises ValueError."""
    if metric is Metric.CONCURRENCY and window is not Window.NONE:
        raise ValueError("concurrency counts purchases under way: it has no window")
    if metric is not Metric.CONCURRENCY and window is Window.NONE:
        raise ValueError(f"a limit of {metric} needs a window: minute, hour, day, month or total")


def check_alerts(metric: Metric, window: Window, alert_at: Sequence[int]) -> None:
    """Raises ValueError unless these are shares that a limit of this kind can be told of."""
    if not alert_at:
        return
    if metric is Metric.CONCURRENCY or (metric is Metric.REQUESTS and window in SHORT_WINDOWS):
        raise ValueError("alert_at: what is free again within the hour is not told; leave it out here")
    ascending = all(low < high for low, high in itertools.pairwise(alert_at))
    if len(alert_at) > MOST_ALERTS or not ascending or alert_at[0] < 1 or alert_at[-1] > 100:
        raise ValueError(f"alert_at: give up to {MOST_ALERTS} percentages from 1 to 100, ascending")


def window_bounds(window: Window, now_ms: int) -> tuple[int, int | None]:
    """Start and end, in milliseconds since the epoch, of the UTC calendar window that holds `now_ms`.

    TOTAL and NONE start at 0 and never end.
    """
    if window in {Window.TOTAL, Window.NONE}:
        return 0, None
    if window in SECONDS:
        span = SECONDS[window] * 1000
        start = now_ms - now_ms % span
        return start, start + span
    now = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
    first = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if window is Window.DAY:
        return _ms(first), _ms(first + dt.timedelta(days=1))
    first = first.replace(day=1)
    return _ms(first), _ms((first + dt.timedelta(days=32)).replace(day=1))


def _ms(moment: dt.datetime) -> int:
    return int(moment.timestamp()) * 1000


class RateDecision(msgspec.Struct, frozen=True):
    """`tat_ns` is the theoretical arrival time to store; `left` calls fit now; all is free again after `reset_ns`."""

    allowed: bool
    tat_ns: int
    left: int
    reset_ns: int
    retry_after_ns: int


def gcra(*, tat_ns: int, now_ns: int, amount: int, period_s: int, weight: int = 1) -> RateDecision:
    """One call against `amount` per period with a burst of `amount` (ITU-T I.371, virtual scheduling).

    Integer nanoseconds of one clock: floats lose a call of the burst to rounding. A refused call takes nothing.
    `weight`: as how many it counts, up to `amount`.
    """
    period_ns = period_s * 1_000_000_000
    if amount == 0:
        return RateDecision(False, tat_ns, 0, period_ns, period_ns)
    spacing = -(-period_ns // amount)
    burst = spacing * amount
    step = spacing if weight == 1 else spacing * min(weight, amount)
    ahead = max(tat_ns - now_ns, 0) + step
    if ahead > burst:
        return RateDecision(False, tat_ns, (burst - ahead + step) // spacing, ahead - step, ahead - burst)
    return RateDecision(True, now_ns + ahead, (burst - ahead) // spacing, ahead, 0)


def refusal(limit: Limit, *, asked: int, left: int, reset_ms: int | None, now_ms: int) -> LimitExceeded:
    """The refusal by `limit`, naming it, its scope, what was asked, what is left, and when it resets."""
    reset_s = None if reset_ms is None else max(1, math.ceil((reset_ms - now_ms) / 1000))
    hopeless = asked > limit.amount
    waits = f"; it resets in {reset_s} s" if reset_s is not None and limit.metric is not Metric.CONCURRENCY else ""
    per = f" per {limit.window}" if limit.window not in {Window.NONE, Window.TOTAL} else ""
    message = (
        f"The {limit.scope}'s limit of {limit.shown(limit.amount)} {limit.metric}{per} "
        f"leaves {limit.shown(max(left, 0))}, "
        f"and this call asks for {limit.shown(asked)}" + (": no waiting makes it fit." if hopeless else f"{waits}.")
    )
    data = {
        "limit": limit.name,
        "scope": limit.scope.value,
        "metric": limit.metric.value,
        "window": limit.window.value or None,
        "amount": limit.shown(limit.amount),
        "asked": limit.shown(asked),
        "left": limit.shown(max(left, 0)),
        "reset_s": reset_s,
    }
    kind = _refusal_kind(limit)
    if hopeless or kind is BudgetExhausted:
        return kind(message, data=data, should_retry=False)
    # SDKs ignore a Retry-After beyond a minute and come again in a second: then they must not come by themselves
    should_retry = False if (reset_s or 0) > 60 else None
    return kind(message, data=data, retry_after_s=reset_s or 1, should_retry=should_retry)


def _refusal_kind(limit: Limit) -> type[LimitExceeded]:
    if limit.window is Window.TOTAL:
        return BudgetExhausted
    if limit.window in SHORT_WINDOWS or limit.metric is Metric.CONCURRENCY:
        return RateLimitExceeded
    return QuotaExceeded
