"""A month of the calendar, UTC: the unit in which books are closed."""

from __future__ import annotations

import datetime as dt
import re
from typing import NamedTuple

from gateway.errors import InvalidRequest

_FORM = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


class Month(NamedTuple):
    """`text` like 2026-11; from `start_ms` to before `end_ms`."""

    text: str
    start_ms: int
    end_ms: int


def month_of(at_ms: int) -> Month:
    """The month that a moment lies in."""
    moment = dt.datetime.fromtimestamp(at_ms // 1000, dt.UTC)
    return _month(moment.year, moment.month)


def parse_month(text: str) -> Month:
    """Raises InvalidRequest."""
    found = _FORM.fullmatch(text)
    if found is None or not 1970 <= int(found[1]) < 9999:
        raise InvalidRequest(f"month: {text[:20]!r} is not a month; write it like 2026-11.", param="month")
    return _month(int(found[1]), int(found[2]))


def _month(year: int, number: int) -> Month:
    following = (year, number + 1) if number < 12 else (year + 1, 1)
    return Month(f"{year:04}-{number:02}", _start_ms(year, number), _start_ms(*following))


def _start_ms(year: int, number: int) -> int:
    return int(dt.datetime(year, number, 1, tzinfo=dt.UTC).timestamp()) * 1000
