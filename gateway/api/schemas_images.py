"""What callers send and get: declared for the OpenAPI document, and built for answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.schemas import Refusal, iso_time
from gateway.domain.image_request import ImageRequest
from gateway.domain.model import Model
from gateway.domain.pricing import PriceRule, usd
from gateway.resources import BudgetLine, Receipt

_REFUSED = {
    400: "The request is not valid, or the provider refused it; `error.data` lists what is wrong.",
    401: "The key is missing, wrong or expired.",
    403: "The key is disabled, may not use the model, or a limit that never resets is spent.",
    404: "There is no such model.",
    409: "The first call with this Idempotency-Key is still under way.",
    410: "The picture was removed.",
    413: "The body is too large.",
    422: "This Idempotency-Key came with another request before.",
    429: "A limit is reached; `error.data` names it. `Retry-After` says when it resets.",
    502: "The provider failed, or its answer or picture is not one. `error.data.charged` says whether it cost.",
    503: "The provider or the ledger can't be used right now. `Retry-After` says when to try again.",
    504: "No answer in time (`charged: unknown`), or `only-if-cached` and not cached.",
}


def refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Refusal, "description": _REFUSED[status]} for status in statuses}


class AnswerImage(BaseModel):
    """A picture: `url`, or with `response_format: b64_json` the bytes in base64 and no `url`."""

    url: str | None = None
    b64_json: str | None = None
    width: int
    height: int
    content_type: str


class AnswerUsage(BaseModel):
    credits_used: int = Field(description="$1 = 2,000,000 credits.")
    usd_spent: float
    tokens_used: int


class AnswerMeta(BaseModel):
    usage: AnswerUsage


class ImagesAnswer(BaseModel):
    """The superset of the provider's answers: `images` and `data` are the same list."""

    created: int = Field(description="Unix seconds.")
    images: list[AnswerImage]
    data: list[AnswerImage]
    timings: dict[str, Any]
    seed: int | None = Field(None, description="Absent when the provider did not say.")
    has_nsfw_concepts: list[bool] | None = None
    prompt: str
    meta: AnswerMeta


class Price(BaseModel):
    model_config = ConfigDict(extra="forbid")

    unit: str = Field(description="`image` or `megapixel`.")
    usd_per_unit: str


class QuoteLimit(BaseModel):
    limit: str = Field(description="Scope, metric and window, like `user-cost_usd-month`.")
    scope: str
    metric: str
    window: str | None
    amount: str
    left: str
    reset_s: int | None


class Quote(BaseModel):
    object: str = "quote"
    model: str
    cost_usd: str = Field(description="What the call would cost now: 0 when it would hit.")
    hit: bool
    images: int
    price: Price
    limits: list[QuoteLimit]


class ReceiptImage(BaseModel):
    url: str | None = Field(description="null: the picture was removed.")
    width: int
    height: int
    content_type: str
    size_bytes: int


class Adjustment(BaseModel):
    """A correction made after the cost was settled."""

    id: str
    amount_usd: str = Field(description="Added to the cost; negative when it was too high.")
    reason: str
    actor: str
    at: str


class Accepted(BaseModel):
    id: str
    object: str = "generation"
    status: str
    location: str


class ReceiptAnswer(BaseModel):
    id: str
    object: str = "generation"
    status: str = Field(description="pending, sent, answered, succeeded, failed or unknown.")
    mode: str
    model: str
    model_version: str
    provider: str
    parameters: dict[str, Any] | None = Field(
        description="As sent to the provider; prompts as the operator keeps them."
    )
    images: list[ReceiptImage]
    price: Price
    cost_usd: str | None = Field(description="null: not known. 0 for a purchase of another user that you joined.")
    settled_by: str | None = Field(
        description="How an unknown outcome was settled: answer, books, estimate or administrator."
    )
    adjustments: list[Adjustment]
    reused: int = Field(description="Calls that this purchase answered besides the one that bought it.")
    saved_usd: str
    inference_id: str | None
    created_at: str
    finished_at: str | None
    error: dict[str, Any] | None


def _json_body(description: str) -> dict[str, Any]:
    return {
        "requestBody": {
            "required": True,
            "description": description,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ImageRequest"}}},
        },
        "security": [{"callerKey": []}],
    }


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


GENERATE: dict[str, Any] = {
    "response_model": ImagesAnswer,
    "responses": {
        202: {"model": Accepted, "description": "`Prefer: respond-async`: `Location` is where the picture will be."},
        **refused(400, 401, 403, 404, 409, 410, 413, 422, 429, 502, 503, 504),
    },
    "openapi_extra": {
        **_json_body("The model's parameters; GET /v1/models lists them."),
        "parameters": [
            _header(
                "Idempotency-Key",
                "What this call is known by: its repeat within a day gets the same answer, or 410 if the picture was "
                "removed since. It never buys twice.",
            ),
            _header(
                "Prefer",
                "`wait=N`: at most N seconds, then 503 `still_generating`, `charged: unknown` to the key that buys the "
                "picture and `no` to one that joined. `respond-async`: 202 at once.",
            ),
            _header("Cache-Control", "no-cache, no-store, only-if-cached, max-age=N (RFC 9111)."),
            _header("Darkroom-Tags", "For the bill: `app=search,env=prod`."),
            _header("X-Client-Request-Id", "Echoed."),
        ],
    },
    "tags": ["images"],
}
QUOTE: dict[str, Any] = {
    "response_model": Quote,
    "responses": refused(400, 401, 403, 404, 413, 429, 503),
    "openapi_extra": _json_body("The same body as a generation."),
    "tags": ["images"],
}
RECEIPT: dict[str, Any] = {
    "response_model": ReceiptAnswer,
    "responses": refused(401, 403, 404, 503),
    "openapi_extra": {"security": [{"callerKey": []}]},
    "tags": ["images"],
}


def request_schema(models: Mapping[str, Model]) -> dict[str, Any]:
    """The JSON Schema of a request body: the served models' own, with the OpenAI names that are understood."""
    variants = [with_openai_names(model) for model in models.values()]
    return variants[0] if len(variants) == 1 else {"anyOf": variants}


def with_openai_names(model: Model) -> dict[str, Any]:
    properties: dict[str, Any] = dict(model.properties)
    count = {
        key: value for key, value in properties[model.roles.count].items() if key not in {"default", "description"}
    }
    properties["n"] = {**count, "description": f"OpenAI's name of `{model.roles.count}`."}
    properties["response_format"] = {"type": "string", "enum": ["url", "b64_json"], "default": "url"}
    properties["stream"] = {"enum": [False, None], "description": "OpenAI's. Pictures come whole: leave it out."}
    properties["user"] = {
        "type": "string",
        "description": "OpenAI's tag of an end user. Passed on to nobody.",
    }
    if model.roles.size:
        said = f"OpenAI's name of `{model.roles.size}`: `WIDTHxHEIGHT`, or `auto`."
        properties["size"] = {
            "type": "string",
            "pattern": "^([0-9]{1,5}x[0-9]{1,5}|auto)$",
            "description": said,
        }
    return {**model.parameters, "title": model.name, "properties": properties}


def price_body(rule: PriceRule) -> dict[str, str]:
    return {"unit": rule.unit, "usd_per_unit": usd(rule.unit_micro_usd)}


def limit_body(line: BudgetLine) -> dict[str, Any]:
    limit = line.limit
    return {
        "limit": limit.name,
        "scope": limit.scope.value,
        "metric": limit.metric.value,
        "window": limit.window.value or None,
        "amount": limit.shown(limit.amount),
        "left": limit.shown(line.left),
        "reset_s": line.reset_s,
    }


def quote_body(
    request: ImageRequest,
    *,
    rule: PriceRule,
    estimate_micro_usd: int,
    hit: bool,
    limits: Sequence[BudgetLine],
) -> bytes:
    return msgspec.json.encode(
        {
            "object": "quote",
            "model": request.model.name,
            "cost_usd": usd(estimate_micro_usd),
            "hit": hit,
            "images": request.images,
            "price": price_body(rule),
            "limits": [limit_body(line) for line in limits],
        }
    )


def adjustment_body(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("id", "reason", "actor")},
        "amount_usd": usd(row["amount_micro_usd"]),
        "at": iso_time(row["at_ms"]),
    }


def receipt_body(receipt: Receipt) -> dict[str, Any]:
    row = receipt.row
    cost, finished = row["cost_micro_usd"], row["finished_ms"]
    return {
        "id": row["id"],
        "object": "generation",
        **{
            name: row[name]
            for name in ("status", "mode", "model", "model_version", "provider", "inference_id", "error")
        },
        "parameters": row["request"],
        "images": [
            {
                "url": address,
                "width": image.width,
                "height": image.height,
                "content_type": image.content_type,
                "size_bytes": image.size_bytes,
            }
            for image, address in receipt.images
        ],
        "price": price_body(msgspec.convert(row["price_rule"], PriceRule)),
        "cost_usd": "0" if receipt.joined else None if cost is None else usd(cost),
        "settled_by": row["settled_by"],
        "adjustments": [] if receipt.joined else [adjustment_body(row) for row in receipt.adjustments],
        "reused": 0 if receipt.joined else receipt.reused,
        "saved_usd": "0" if receipt.joined else usd(receipt.saved_micro_usd),
        "created_at": iso_time(row["created_ms"]),
        "finished_at": None if finished is None else iso_time(finished),
    }
