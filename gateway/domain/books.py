"""The provider's books beside ours: which calls both know, which only one does, where the amounts differ."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal, InvalidOperation

from gateway.domain.pricing import MICRO_PER_USD
from gateway.errors import InvalidRequest

_MICRO_USD_PER_CREDIT = Decimal("0.5")  # $1 = 2,000,000 credits
_SECONDS_BELOW = 100_000_000_000


@dataclass(frozen=True, slots=True)
class BookEntry:
    """One call as the provider booked it. `client_request_id` is our generation's id, if the call was ours."""

    client_request_id: str | None
    request_id: str | None
    inference_id: str | None
    created_ms: int
    status: str
    model: str | None
    cost_micro_usd: int


@dataclass(frozen=True, slots=True)
class OwnEntry:
    """One generation that was sent. `cost_micro_usd` with its adjustments; None while it is not settled."""

    id: str
    status: str
    sent_ms: int
    cost_micro_usd: int | None


@dataclass(frozen=True, slots=True)
class Difference:
    id: str
    ours_micro_usd: int
    theirs_micro_usd: int


@dataclass(slots=True)
class Comparison:
    """`open`: not settled yet, or too young for the books to show. They are no drift."""

    matched: int = 0
    ours_micro_usd: int = 0
    theirs_micro_usd: int = 0
    ours_only: list[OwnEntry] = field(default_factory=list)
    theirs_only: list[BookEntry] = field(default_factory=list)
    differing: list[Difference] = field(default_factory=list)
    open: list[OwnEntry] = field(default_factory=list)

    @property
    def drift(self) -> bool:
        return bool(self.ours_only or self.theirs_only or self.differing)


def compare(
    ours: Iterable[OwnEntry],
    theirs: Iterable[BookEntry],
    *,
    from_ms: int,
    to_ms: int,
    settled_before_ms: int,
) -> Comparison:
    """What was sent or booked in [from_ms, to_ms). Both lists reach a little beyond it, so that none misses its pair.

    A call may be booked several times under one id (an attempt refused, then one served): its amounts add up. What was
    sent after `settled_before_ms` and is not in the books may still come.
    """
    booked: defaultdict[str, int] = defaultdict(int)
    entries = list(theirs)
    for entry in entries:
        if entry.client_request_id:
            booked[entry.client_request_id] += entry.cost_micro_usd
    found = Comparison()
    known = set()
    for own in ours:
        known.add(own.id)
        if from_ms <= own.sent_ms < to_ms:
            _place(found, own, booked.get(own.id), young=own.sent_ms >= settled_before_ms)
    for entry in entries:
        strange = entry.client_request_id not in known and entry.cost_micro_usd > 0
        if strange and from_ms <= entry.created_ms < to_ms:
            found.theirs_only.append(entry)
            found.theirs_micro_usd += entry.cost_micro_usd
    return found


def _place(found: Comparison, own: OwnEntry, booked: int | None, *, young: bool) -> None:
    cost = own.cost_micro_usd
    if cost is None or (booked is None and cost > 0 and young):
        found.open.append(own)
        return
    found.ours_micro_usd += cost
    found.theirs_micro_usd += booked or 0
    if booked is None and cost > 0:
        found.ours_only.append(own)
    elif cost != (booked or 0):
        found.differing.append(Difference(own.id, cost, booked or 0))
    else:
        found.matched += 1


def parse_csv(text: str) -> list[BookEntry]:
    """An export with a header line: `created` and `client_request_id`, one of `cost_usd` and `credits`, and what there
    is of `status`, `model`, `request_id`, `inference_id`. Raises InvalidRequest with the line at fault.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    names = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
    missing = [name for name in ("created", "client_request_id") if name not in names]
    if not {"cost_usd", "credits"} & names.keys():
        missing.append("cost_usd (or credits)")
    if missing:
        raise InvalidRequest(
            f"The export has no column {', '.join(missing)}; its columns: {', '.join(names) or 'none'}."
        )
    return [
        _entry({name: (row.get(column) or "").strip() for name, column in names.items()}, line=line)
        for line, row in enumerate(reader, 2)
    ]


def _entry(row: Mapping[str, str], *, line: int) -> BookEntry:
    try:
        return BookEntry(
            client_request_id=row["client_request_id"] or None,
            request_id=row.get("request_id") or None,
            inference_id=row.get("inference_id") or None,
            created_ms=parse_moment(row["created"]),
            status=row.get("status") or "",
            model=row.get("model") or None,
            cost_micro_usd=_cost(row),
        )
    except ValueError as exc:
        raise InvalidRequest(f"Line {line} of the export: {exc}.") from None


def parse_moment(text: str | float) -> int:
    """Milliseconds since the epoch, of ISO 8601 (UTC unless it says otherwise) or of seconds or milliseconds.

    Raises ValueError.
    """
    try:
        number = float(text)
    except ValueError:
        number = None
    if number is not None:
        if not 0 < number < 1e15:
            raise ValueError(f"created {text} is not a time")
        return int(number * 1000 if number < _SECONDS_BELOW else number)
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise ValueError(f"created {str(text)[:40]!r} is not a time; write it like 2026-11-22T20:00:00Z") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _cost(row: Mapping[str, str]) -> int:
    text = row.get("cost_usd") or row.get("credits") or "0"
    unit = Decimal(MICRO_PER_USD) if row.get("cost_usd") else _MICRO_USD_PER_CREDIT
    try:
        amount = Decimal(text) * unit
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount < 10**15:
        raise ValueError(f"cost {text[:40]!r} is not an amount")
    return int(amount.to_integral_value(ROUND_CEILING))
