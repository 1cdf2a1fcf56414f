"""Usage as administrators and callers read it: JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from pydantic import BaseModel, Field

from gateway.api.schemas import iso_time
from gateway.api.schemas_images import Price, price_body
from gateway.domain.pricing import PriceRule, usd
from gateway.resources import Report


class UsageNumbers(BaseModel):
    requests: int = Field(description="Calls, whatever became of them.")
    hits: int
    joined: int = Field(description="Calls that shared a purchase under way. Disjoint from hits.")
    generations: int = Field(description="Purchases.")
    images: int = Field(description="Pictures delivered.")
    errors: int = Field(description="Answers of 400 and above.")
    cost_usd: str
    saved_usd: str = Field(description="What hits and joins would have cost.")


class UsageRow(UsageNumbers):
    group: dict[str, str | None]
    bucket: str | None = Field(description="Start of the hour, day or month.")


class UsageReport(BaseModel):
    data: list[UsageRow]
    total: UsageNumbers


class RequestRow(BaseModel):
    """One call, as the usage log has it."""

    id: str
    at: str
    mode: str
    key_id: str
    user_id: str
    team_id: str | None
    model: str | None
    provider: str | None
    outcome: str = Field(
        description="hit, joined, repeated, bought, refused or failed; settlement and adjustment are money alone."
    )
    status: int
    code: str | None
    images: int
    cost_usd: str | None = Field(description="null: not known.")
    saved_usd: str
    latency_ms: float
    generation_id: str | None
    tags: dict[str, str] | None
    labels: dict[str, str] | None


class GenerationRow(BaseModel):
    """One purchase."""

    id: str
    status: str
    mode: str
    fingerprint: str
    model: str
    model_version: str
    provider: str
    provider_key_id: str | None
    key_id: str
    user_id: str
    team_id: str | None
    images: int
    reserved_usd: str
    cost_usd: str | None = Field(description="As settled; null: not known.")
    adjusted_usd: str = Field(description="The sum of later corrections.")
    settled_by: str | None = Field(
        description="How an unknown outcome was settled: answer, books, estimate or administrator."
    )
    overrun: bool = Field(description="It cost more than was reserved for it.")
    price_rule: Price
    inference_id: str | None
    created_at: str
    finished_at: str | None
    error: dict[str, Any] | None


def numbers(sums: Mapping[str, int]) -> UsageNumbers:
    counts = {name: amount for name, amount in sums.items() if not name.endswith("_micro_usd")}
    return UsageNumbers(**counts, cost_usd=usd(sums["cost_micro_usd"]), saved_usd=usd(sums["saved_micro_usd"]))


def report_answer(report: Report) -> UsageReport:
    rows = [
        UsageRow(
            group=dict(row.group),
            bucket=None if row.bucket_ms is None else iso_time(row.bucket_ms),
            **numbers(row.sums).model_dump(),
        )
        for row in report.rows
    ]
    return UsageReport(data=rows, total=numbers(report.total))


def report_csv(report: Report, group_by: Sequence[str]) -> str:
    """One line a row, the groups first. Cells that a spreadsheet would run get an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    measures = list(UsageNumbers.model_fields)
    writer.writerow([*group_by, "bucket", *measures])
    for row in report_answer(report).data:
        values = [row.group[name] for name in group_by] + [row.bucket]
        writer.writerow([*(map(cell, values)), *(getattr(row, name) for name in measures)])
    return out.getvalue()


def cell(value: str | None) -> str:
    """Text in a CSV: no spreadsheet runs it."""
    text = value or ""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def request_row(row: Mapping[str, Any]) -> RequestRow:
    cost = row["cost_micro_usd"]
    taken = {name: row[name] for name in RequestRow.model_fields if name in row}
    return RequestRow(
        **taken,
        at=iso_time(row["at_ms"]),
        cost_usd=None if cost is None else usd(cost),
        saved_usd=usd(row["saved_micro_usd"]),
        latency_ms=row["latency_us"] / 1000,
    )


def generation_row(row: Mapping[str, Any]) -> GenerationRow:
    cost, finished = row["cost_micro_usd"], row["finished_ms"]
    taken = {name: row[name] for name in GenerationRow.model_fields if name in row and name != "price_rule"}
    return GenerationRow(
        **taken,
        reserved_usd=usd(row["reserved_micro_usd"]),
        cost_usd=None if cost is None else usd(cost),
        adjusted_usd=usd(row["adjusted_micro_usd"]),
        price_rule=Price(**price_body(msgspec.convert(row["price_rule"], PriceRule))),
        created_at=iso_time(row["created_ms"]),
        finished_at=None if finished is None else iso_time(finished),
    )
