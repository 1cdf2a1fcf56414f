"""Statements as administrators get them: JSON, and CSV with the columns of FOCUS 1.2.

FOCUS: the FinOps Open Cost and Usage Specification, https://focus.finops.org/focus-specification/v1-2.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec.structs import asdict
from pydantic import BaseModel, Field

from gateway.api.schemas import Name, RequestBody, iso_time
from gateway.api.schemas_usage import UsageNumbers, cell, numbers
from gateway.domain.api_key import Mode
from gateway.domain.month import parse_month
from gateway.domain.pricing import usd
from gateway.resources import Statement, StatementLine

_COUNTED = ("requests", "hits", "joined", "generations", "images", "errors")
_NUMBERS = (*_COUNTED, "cost_micro_usd", "saved_micro_usd")


class StatementCreate(RequestBody):
    month: Name = Field(description="Like 2026-11; it must be over, UTC.")
    mode: Mode = Mode.LIVE


class StatementHead(BaseModel):
    object: Literal["statement"] = "statement"
    month: str
    mode: Mode
    closed_at: str
    closed_by: str
    cost_usd: str


class StatementLineAnswer(UsageNumbers):
    of_month: str = Field(description="An earlier month: what came to it after it was closed.")
    team_id: str | None
    team: str | None = Field(description="Names are those of the moment it was closed.")
    user_id: str
    user: str | None
    key_id: str
    key: str | None
    model: str | None
    provider: str | None


class StatementAnswer(StatementHead):
    total: UsageNumbers
    lines: list[StatementLineAnswer]


def statement_head(statement: Statement) -> StatementHead:
    return StatementHead(
        month=statement.month,
        mode=Mode(statement.mode),
        closed_at=iso_time(statement.closed_ms),
        closed_by=statement.closed_by,
        cost_usd=usd(statement.cost_micro_usd),
    )


def statement_answer(statement: Statement, lines: Sequence[StatementLine]) -> StatementAnswer:
    total = {name: sum(getattr(line, name) for line in lines) for name in _NUMBERS}
    return StatementAnswer(
        **statement_head(statement).model_dump(), total=numbers(total), lines=[_line(line) for line in lines]
    )


def _line(line: StatementLine) -> StatementLineAnswer:
    return StatementLineAnswer(
        of_month=line.of_month,
        team_id=line.team_id or None,
        user_id=line.user_id,
        key_id=line.key_id,
        model=line.model or None,
        provider=line.provider or None,
        **{kind: line.names.get(kind) for kind in ("team", "user", "key")},
        **_numbers(line).model_dump(),
    )


def _numbers(line: StatementLine) -> UsageNumbers:
    return numbers({name: value for name, value in asdict(line).items() if name in _NUMBERS})


def statement_csv(statement: Statement, lines: Sequence[StatementLine]) -> str:
    """One line a row. Text that a spreadsheet would run gets an apostrophe; amounts are left as they are."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _row_columns(), lineterminator="\n")
    writer.writeheader()
    for line in lines:
        texts = {name: cell(text) for name, text in _texts(statement, line).items()}
        writer.writerow(texts | _amounts(line, late=line.of_month != statement.month))
    return out.getvalue()


def _row_columns() -> list[str]:
    """FOCUS's own in the order of its list, then ours."""
    return [
        *_FOCUS,
        "x_Mode",
        "x_OfMonth",
        "x_UserId",
        "x_UserName",
        *(f"x_{name.title()}" for name in _COUNTED),
        "x_SavedCost",
    ]


_FOCUS = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart",
    "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost",
    "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ResourceId", "ResourceName", "ResourceType",
    "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId", "SubAccountId", "SubAccountName", "SubAccountType",
    "Tags",
)  # fmt: skip
"""All that FOCUS 1.2 makes mandatory, and what else there is something to say in."""


def _texts(statement: Statement, line: StatementLine) -> Mapping[str, str | None]:
    billed, charged = parse_month(statement.month), parse_month(line.of_month)
    late, seller = line.of_month != statement.month, line.provider or "Darkroom"
    return {
        "BillingAccountId": "darkroom",
        "BillingAccountName": "Darkroom",
        "BillingCurrency": "USD",
        "BillingPeriodStart": iso_time(billed.start_ms),
        "BillingPeriodEnd": iso_time(billed.end_ms),
        "ChargePeriodStart": iso_time(charged.start_ms),
        "ChargePeriodEnd": iso_time(charged.end_ms),
        "ChargeCategory": "Adjustment" if late else "Usage",
        "ChargeClass": "Correction" if late else "",
        "ChargeDescription": f"What came to {charged.text} after it was closed" if late else "Generated images",
        "ChargeFrequency": "Usage-Based",
        "InvoiceIssuerName": seller,
        "ProviderName": seller,
        "PublisherName": seller,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "ServiceName": "Image generation",
        "SkuId": line.model,
        "ResourceId": line.key_id,
        "ResourceName": line.names.get("key"),
        "ResourceType": "API key",
        "SubAccountId": line.team_id,
        "SubAccountName": line.names.get("team"),
        "SubAccountType": "Team" if line.team_id else "",
        "Tags": _tags(line.names),
        "x_Mode": statement.mode,
        "x_OfMonth": line.of_month,
        "x_UserId": line.user_id,
        "x_UserName": line.names.get("user"),
        "ConsumedUnit": "" if late else "Images",
        "PricingUnit": "" if late else "Generations",
    }


def _amounts(line: StatementLine, *, late: bool) -> dict[str, Any]:
    """There is no one unit price for a month, so that list, contracted and effective cost are what was billed.

    Quantities are of usage alone (FOCUS: ConsumedQuantity).
    """
    cost = usd(line.cost_micro_usd)
    amounts: dict[str, Any] = dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost)
    amounts |= {f"x_{name.title()}": getattr(line, name) for name in _COUNTED}
    amounts["x_SavedCost"] = usd(line.saved_micro_usd)
    return amounts if late else amounts | {"ConsumedQuantity": line.images, "PricingQuantity": line.generations}


def _tags(names: Mapping[str, str | None]) -> str:
    named = {f"darkroom/{kind}": name for kind, name in names.items() if name is not None}
    return json.dumps(named, ensure_ascii=False)
