"""The time that a page is about, and the time before it that it is compared with. All in UTC, in whole hours."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
PRESETS = {
    "24h": "24 hours",
    "7d": "7 days",
    "30d": "30 days",
    "month": "This month",
    "last-month": "Last month",
    "90d": "90 days",
}
_LENGTHS = {"24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY, "90d": 90 * DAY}
_FEW_DAYS = 3 * DAY
_MANY_DAYS = 120 * DAY
_LONGEST = 3700 * DAY
_EARLIEST = dt.datetime(1990, 1, 1, tzinfo=dt.UTC)
_LATEST = dt.datetime(2200, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open range. `preset` None: chosen by its days, `first` to `last`."""

    preset: str | None
    start: dt.datetime
    end: dt.datetime
    before: dt.datetime
    """Where the period begins that it is compared with, which ends where this one begins."""
    before_end: dt.datetime

    @property
    def bucket(self) -> str:
        length = self.end - self.start
        return "hour" if length <= _FEW_DAYS else "day" if length <= _MANY_DAYS else "month"

    @property
    def label(self) -> str:
        if self.preset is not None:
            return PRESETS[self.preset]
        return f"{_shown(self.start)} to {_shown(self.end - DAY)}"

    @property
    def range(self) -> dict[str, str]:
        """As the API takes it."""
        return {"from_": _iso(self.start), "to": _iso(self.end)}

    @property
    def range_before(self) -> dict[str, str]:
        return {"from_": _iso(self.before), "to": _iso(self.before_end)}

    @property
    def query(self) -> dict[str, str]:
        """As addresses of pages say it."""
        if self.preset is not None:
            return {"period": self.preset}
        return {"from": f"{self.start:%Y-%m-%d}", "to": f"{self.end - DAY:%Y-%m-%d}"}

    def buckets(self) -> list[dt.datetime]:
        """The start of every bucket, those without a call included."""
        found, at = [], self.start
        while at < self.end:
            found.append(at)
            at = _next_month(at) if self.bucket == "month" else at + (HOUR if self.bucket == "hour" else DAY)
        return found


def read_period(query: Mapping[str, str], now: dt.datetime, *, default: str = "30d") -> Period:
    """What an address asks for: `period`, or `from` and `to` as days, the last included. What is not understood is the
    default.
    """
    chosen = _chosen(query)
    if chosen is not None:
        start, end = chosen
        return Period(None, start, end, start - (end - start), start)
    preset = query.get("period", default)
    return _preset(preset if preset in PRESETS else default, now)


def _preset(preset: str, now: dt.datetime) -> Period:
    end = now.replace(minute=0, second=0, microsecond=0) + HOUR
    month = end.replace(day=1, hour=0) if end.hour or end.day > 1 else _month_before(end.replace(hour=0))
    if preset == "month":
        before = _month_before(month)
        return Period(preset, month, end, before, min(month, before + (end - month)))
    if preset == "last-month":
        start = _month_before(month)
        return Period(preset, start, month, _month_before(start), start)
    length = _LENGTHS[preset]
    if length > DAY and end.hour:  # whole days, today among them: their totals are there to be read
        end = end.replace(hour=0) + DAY
    start = end - length
    return Period(preset, start, end, start - length, start)


def _chosen(query: Mapping[str, str]) -> tuple[dt.datetime, dt.datetime] | None:
    try:
        start = dt.datetime.strptime(query["from"], "%Y-%m-%d").replace(tzinfo=dt.UTC)
        end = dt.datetime.strptime(query["to"], "%Y-%m-%d").replace(tzinfo=dt.UTC) + DAY
    except (KeyError, ValueError, OverflowError):
        return None
    return (start, end) if _EARLIEST <= start < end <= _LATEST and end - start < _LONGEST else None


def _month_before(at: dt.datetime) -> dt.datetime:
    return (at - DAY).replace(day=1)


def _next_month(at: dt.datetime) -> dt.datetime:
    return (at.replace(day=1) + 31 * DAY).replace(day=1)


def _shown(at: dt.datetime) -> str:
    return f"{at.day} {at:%b %Y}"


def _iso(at: dt.datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
