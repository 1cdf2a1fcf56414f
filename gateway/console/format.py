"""Money, counts, times and sizes as people read them. What a number says is never rounded away: money is exact."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

from markupsafe import Markup, escape

DASH = "–"


def money(value: str | Decimal | None) -> str:
    """Dollars, exact: at least cents, thousands apart."""
    if value is None:
        return "unknown"
    amount = Decimal(value)
    places = max(2, -int(amount.normalize().as_tuple().exponent))
    sign = "−" if amount < 0 else ""
    return f"{sign}${abs(amount):,.{places}f}"


def count(value: float | str) -> str:
    """A number with its thousands apart."""
    return f"{Decimal(str(value)):,}"


def counted(number: int, what: str) -> str:
    """`1 user`, `2 users`."""
    return f"{count(number)} {what}{'' if number == 1 else 's'}"


def amount(value: str, metric: str) -> str:
    """What a limit's amount, or its use, says: dollars for money."""
    return money(value) if metric == "cost_usd" else count(value)


def percent(part: float, whole: float) -> str:
    return DASH if not whole else f"{100 * part / whole:.1f} %"


def change(now: str | float, before: str | float) -> str:
    """How much more or less than before."""
    new, old = Decimal(str(now)), Decimal(str(before))
    if not old:
        return "new" if new else "no change"
    grown = 100 * (new - old) / old
    return "no change" if not round(grown) else f"{'+' if grown > 0 else '−'}{abs(grown):,.0f} %"


def parse(value: str) -> dt.datetime:
    return dt.datetime.fromisoformat(value)


def moment(value: str | None) -> Markup:
    """A time in UTC to the minute; the whole of it for machines and on hover."""
    if value is None:
        return escape(DASH)
    at = parse(value)
    shown = f"{at.day} {at:%b %Y}, {at:%H:%M}"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(value, f"{at:%Y-%m-%d %H:%M:%S}", shown)


def day(value: str | None) -> Markup:
    if value is None:
        return escape(DASH)
    at = parse(value)
    return Markup('<time datetime="{}">{} {}</time>').format(value, at.day, f"{at:%b %Y}")


def milliseconds(value: float) -> str:
    if value < 1:
        return f"{value * 1000:,.0f} µs"
    return f"{value:,.0f} ms" if value < 1000 else f"{value / 1000:,.1f} s"


def size(value: int) -> str:
    """Bytes in the units that files are shown in."""
    if value < 1000:
        return f"{value} B"
    return f"{value / 1000:,.0f} kB" if value < 1_000_000 else f"{value / 1_000_000:,.1f} MB"


def short(value: str | None) -> str:
    """An id as lists show it: its kind and the first of its letters."""
    if not value:
        return DASH
    kind, _, rest = value.partition("_")
    return f"{kind}_{rest[:6]}…" if len(rest) > 8 else value


def words(value: str) -> str:
    """A word of the API as prose: `cost_usd` is `cost`, `rate_limit_exceeded` is `rate limit exceeded`."""
    return {"cost_usd": "cost"}.get(value, value.replace("_", " "))


def limit_name(limit: dict[str, Any]) -> str:
    """`cost a month`, `requests a minute`, `concurrency`."""
    window = limit.get("window")
    name = words(limit["metric"])
    return f"{name} in total" if window == "total" else f"{name} a {window}" if window else name


def told(value: Any) -> str:
    """What a change set something to: words, limits by their names, all else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(each, dict) and "metric" in each for each in value):
        return "; ".join(f"{limit_name(each)} {amount(str(each['amount']), each['metric'])}" for each in value)
    return json.dumps(value, ensure_ascii=False)


FILTERS = {
    "money": money, "count": count, "moment": moment, "day": day, "milliseconds": milliseconds, "size": size,
    "short": short, "words": words, "limit_name": limit_name, "amount": amount, "told": told,
}  # fmt: skip
FUNCTIONS = {"percent": percent, "change": change}
