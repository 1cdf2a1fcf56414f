"""The demo provider's accounts: who may call, what is left, and `GET /v2/logs` as documented.

Rules of the page "Usage Logs" of docs.aimlapi.com: `period`, or `start` and `end` (at most 92 days apart); `limit`
1..100; newest first; the rows of the asking key alone; 200 calls a minute.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

CREDITS_PER_USD = 2_000_000
READS_A_MINUTE = 200
_ENDLESS_USD = Decimal(10_000)
_LONGEST = dt.timedelta(days=92)

KeyFault = Literal["revoked", "out_of_credits", "rate_limited"]


class BadQuery(Exception):
    """A query that the provider would refuse with 400."""


@dataclass(frozen=True)
class Row:
    """A call of a known key, charged or refused."""

    key: str
    at: float
    status: Literal["succeeded", "failed"]
    model: str
    cost_usd: Decimal
    inference_id: str
    client_request_id: str | None

    def shown(self) -> dict[str, Any]:
        created = dt.datetime.fromtimestamp(self.at, dt.UTC).isoformat(timespec="milliseconds")
        return {
            "created": created.replace("+00:00", "Z"),
            "status": self.status,
            "origin": "api",
            "model": self.model,
            "cost": {"usd": float(self.cost_usd), "credits": int(self.cost_usd * CREDITS_PER_USD)},
            "tokens": {"input": 0, "output": 0, "total": 0},
            "request_id": f"req-{self.inference_id}",
            "inference_id": self.inference_id,
            "client_request_id": self.client_request_id,
        }


@dataclass
class Books:
    """What the provider knows of each key.

    `key_faults`: what a key meets instead of an answer. `balance_usd`: what is left behind a key (absent or None:
    endless). `hide_from_books`: client request ids that never show in the logs, or the seconds by which they lag.
    `books_status`: the logs and the balance are refused with it.
    """

    keys: set[str]
    key_faults: dict[str, KeyFault] = field(default_factory=dict)
    balance_usd: dict[str, Decimal | None] = field(default_factory=dict)
    hide_from_books: list[str] | float = field(default_factory=list)
    books_status: int | None = None
    calls_by_key: Counter[str] = field(default_factory=Counter)
    rows: list[Row] = field(default_factory=list)
    _reads: defaultdict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))

    def knows(self, key: str) -> bool:
        return key in self.keys and self.key_faults.get(key) != "revoked"

    def left_usd(self, key: str) -> Decimal:
        if self.key_faults.get(key) == "out_of_credits":
            return Decimal(0)
        left = self.balance_usd.get(key)
        return _ENDLESS_USD if left is None else left

    def charge(self, key: str, cost_usd: Decimal) -> None:
        left = self.balance_usd.get(key)
        if left is not None:
            self.balance_usd[key] = max(Decimal(0), left - cost_usd)

    def may_read(self, key: str, now: float) -> bool:
        """Counts a call of the logs; False above 200 a minute."""
        reads = self._reads[key]
        while reads and reads[0] <= now - 60:
            reads.popleft()
        reads.append(now)
        return len(reads) <= READS_A_MINUTE

    def page(self, key: str, query: Mapping[str, list[str]], now: float) -> dict[str, Any]:
        """One page of the logs. Raises BadQuery."""
        start, end = _window(query, now)
        limit, offset = _number(query, "limit", 50, 1, 100), _number(query, "offset", 0, 0, None)
        wanted = set(query.get("status", ["succeeded", "failed"]))
        if not wanted <= {"succeeded", "failed"}:
            raise BadQuery("status must be succeeded or failed")
        found = [
            row
            for row in sorted(self.rows, key=lambda row: row.at, reverse=True)
            if row.key == key and start <= row.at <= end and row.status in wanted and self._shows(row, now)
        ]
        page = {"limit": limit, "offset": offset, "total": len(found), "has_more": offset + limit < len(found)}
        return {"data": [row.shown() for row in found[offset : offset + limit]], "pagination": page}

    def _shows(self, row: Row, now: float) -> bool:
        if isinstance(self.hide_from_books, list):
            return row.client_request_id not in self.hide_from_books
        return row.at <= now - self.hide_from_books

    def control(self, asked: dict[str, Any]) -> None:
        """Takes its own switches out of `asked`."""
        self.keys |= set(asked.pop("keys", ()))
        faults = self.key_faults | asked.pop("key_faults", {})
        self.key_faults = {key: fault for key, fault in faults.items() if fault is not None}
        for key, left in asked.pop("balance_usd", {}).items():
            self.balance_usd[key] = None if left is None else Decimal(str(left))
        self.hide_from_books = asked.pop("hide_from_books", self.hide_from_books)
        self.books_status = asked.pop("books_status", self.books_status)


def _window(query: Mapping[str, list[str]], now: float) -> tuple[float, float]:
    """Either `period`, or `start` and `end`; never both."""
    if ("period" in query) == ("start" in query and "end" in query):
        raise BadQuery("Provide either period, or both start and end")
    if "period" in query:
        parts = re.fullmatch(r"([1-9]\d*)([hd])", query["period"][0])
        if parts is None:
            raise BadQuery("period must be a positive integer followed by h or d")
        length = dt.timedelta(hours=int(parts[1]) * (24 if parts[2] == "d" else 1))
        end = dt.datetime.fromtimestamp(now, dt.UTC)
        start = end - length
    else:
        start, end = _time(query["start"][0]), _time(query["end"][0])
    if end < start or end - start > _LONGEST:
        raise BadQuery("end must not be earlier than start, and the window must not exceed 92 days")
    return start.timestamp(), end.timestamp()


def _time(said: str) -> dt.datetime:
    try:
        time = dt.datetime.fromisoformat(said)
    except ValueError as exc:
        raise BadQuery(f"{said} is not an ISO-8601 time") from exc
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


def _number(query: Mapping[str, list[str]], name: str, default: int, low: int, high: int | None) -> int:
    said = query.get(name, [str(default)])[0]
    if not said.isdecimal() or int(said) < low or (high is not None and int(said) > high):
        raise BadQuery(f"{name} is out of range")
    return int(said)
