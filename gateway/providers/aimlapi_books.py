"""Read AI/ML API's books: `GET /v2/logs` and `GET /v2/billing`. No I/O, no clock.

Pages "Usage Logs" and "Account Balance" of docs.aimlapi.com: one row a call, refused ones at no cost, newest first, at
most 100 a page by `offset`; the rows of the asking key alone. What is not understood is an error, never left out: the
absence of a row settles money.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any

import msgspec

from gateway.domain.books import BookEntry
from gateway.providers.base import BooksUnavailable

PAGE_ROWS = 100

_MICRO_USD_PER_USD = Decimal(1_000_000)
_MICRO_USD_PER_CREDIT = Decimal("0.5")  # $1 = 2,000,000 credits
_ABSURD_MICRO_USD = 10_000 * 10**6
_SECONDS_BELOW = 100_000_000_000  # the year 5138 in seconds, March 1973 in milliseconds


@dataclass(frozen=True, slots=True)
class BookPage:
    """`has_more`: another page follows, at this page's offset plus its rows."""

    entries: list[BookEntry]
    has_more: bool


def logs_query(*, since_ms: int, until_ms: int, offset: int) -> dict[str, str]:
    """The parameters of one page. The provider takes windows of at most 92 days."""
    return {"start": _iso(since_ms), "end": _iso(until_ms), "limit": str(PAGE_ROWS), "offset": str(offset)}


def read_page(body: bytes) -> BookPage:
    """One page of the logs. Raises BooksUnavailable, with the reason, for anything that can't be believed whole."""
    said = _object(body)
    rows = next((said[name] for name in ("data", "logs", "items") if isinstance(said.get(name), list)), None)
    if rows is None:
        raise BooksUnavailable("the provider's logs hold no list of calls")
    has_more = _has_more(said.get("pagination"), len(rows))
    if has_more and not rows:
        raise BooksUnavailable("the provider's logs promise more calls and show none")
    return BookPage([_entry(row) for row in rows], has_more)


def read_balance(body: bytes) -> int:
    """Micro-dollars, rounded down; below 0 when the account is overdrawn. Raises BooksUnavailable."""
    said = _object(body)
    balance = _decimal(said.get("current_balance"))
    if balance is None or said.get("currency", "USD") != "USD":
        raise BooksUnavailable("the provider's balance is not an amount in dollars")
    return int((balance * _MICRO_USD_PER_USD).to_integral_value(ROUND_FLOOR))


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(body)
    except (ValueError, RecursionError) as exc:  # DecodeError and UnicodeDecodeError are ValueErrors
        raise BooksUnavailable("the provider's books are not JSON") from exc
    if not isinstance(said, dict):
        raise BooksUnavailable("the provider's books are not a JSON object")
    return said


def _has_more(pagination: Any, rows: int) -> bool:
    said = pagination.get("has_more") if isinstance(pagination, dict) else None
    if isinstance(said, bool):
        return said
    if rows >= PAGE_ROWS:
        raise BooksUnavailable("the provider's logs do not say whether there are more calls")
    return False


def _entry(row: Any) -> BookEntry:
    if not isinstance(row, dict):
        raise BooksUnavailable("a call in the provider's logs is not an object")
    created_ms, cost, status = _time_ms(row.get("created")), _cost(row.get("cost")), _text(row.get("status"))
    if created_ms is None or cost is None or status is None:
        missing = "time" if created_ms is None else "cost" if cost is None else "status"
        raise BooksUnavailable(f"a call in the provider's logs has no {missing} that can be understood")
    return BookEntry(
        client_request_id=_text(row.get("client_request_id")),
        request_id=_text(row.get("request_id")),
        inference_id=_text(row.get("inference_id")),
        created_ms=created_ms,
        status=status,
        model=_text(row.get("model")),
        cost_micro_usd=cost,
    )


def _cost(said: Any) -> int | None:
    """A bare number is not believed: it might be dollars or credits, two million times apart."""
    said = said if isinstance(said, Mapping) else {}
    statements = ((said.get("usd"), _MICRO_USD_PER_USD), (said.get("credits"), _MICRO_USD_PER_CREDIT))
    micro_usd = next((number * unit for value, unit in statements if (number := _decimal(value)) is not None), None)
    if micro_usd is None or not 0 <= micro_usd <= _ABSURD_MICRO_USD:
        return None
    return int(micro_usd.to_integral_value(ROUND_CEILING))


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value))
    except (InvalidOperation, ValueError):  # ValueError: an integer of thousands of digits
        return None
    return number if number.is_finite() and abs(number) < 10**15 else None


def _time_ms(said: Any) -> int | None:
    """ISO 8601, in UTC unless it says otherwise; or seconds or milliseconds since 1970."""
    if isinstance(said, str):
        try:
            time = datetime.fromisoformat(said)
        except ValueError:
            return None
        aware = time if time.tzinfo else time.replace(tzinfo=UTC)
        return round((aware - datetime.fromtimestamp(0, UTC)).total_seconds() * 1000)
    number = _decimal(said)
    if number is None or number <= 0:
        return None
    return int(number * 1000 if number < _SECONDS_BELOW else number)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
