"""Pictures as galleries read them, and all that is known of one purchase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from gateway.api.schemas import ListAnswer, iso_time
from gateway.api.schemas_images import Adjustment, adjustment_body
from gateway.api.schemas_usage import GenerationRow, generation_row
from gateway.domain.pricing import usd
from gateway.resources import Receipt


class OwnPicture(BaseModel):
    """A purchase by its first picture."""

    object: str = "picture"
    generation_id: str
    image_id: str = Field(description="Of the first picture.")
    images: int = Field(description="How many pictures the purchase has.")
    extension: str
    content_type: str
    width: int
    height: int
    size_bytes: int
    model: str
    mode: str
    key_id: str
    prompt: str | None = Field(description="null: not kept.")
    seed: int | None
    cost_usd: str | None = Field(description="As settled; null: not known.")
    reused: int = Field(description="How often it answered another call.")
    saved_usd: str = Field(description="What those calls would have cost.")
    cached: bool = Field(description="Whether an equal call would get it from the cache.")
    created_at: str
    url: str


class PictureRow(OwnPicture):
    user_id: str
    team_id: str | None


class PictureList(ListAnswer[PictureRow]):
    prompts_kept: bool = Field(description="false: by privacy.store_prompts no prompt is there to be found.")


class OwnPictureList(ListAnswer[OwnPicture]):
    prompts_kept: bool = Field(description="false: the gateway keeps no prompts, so none can be found.")


class FullReceiptImage(BaseModel):
    id: str
    url: str | None = Field(description="null: the picture was removed.")
    extension: str
    content_type: str
    width: int
    height: int
    size_bytes: int
    removed: bool


class FullReceipt(GenerationRow):
    """One purchase, all of it."""

    object: str = "receipt"
    request: dict[str, Any] | None = Field(description="The exact parameters, as privacy.store_prompts keeps them.")
    prompt: str | None
    # in place of their number
    images: list[FullReceiptImage] = Field(description="In the order of the answer.")  # type: ignore[assignment]
    adjustments: list[Adjustment]
    reused: int
    saved_usd: str
    cached: bool
    repeat_body: dict[str, Any] | None = Field(description="The body that asks for it again; null: no prompt was kept.")
    latency_s: float | None = Field(description="From intent to outcome.")


def own_picture(row: Mapping[str, Any]) -> OwnPicture:
    return OwnPicture(**_fields(row, OwnPicture))


def picture_row(row: Mapping[str, Any]) -> PictureRow:
    return PictureRow(**_fields(row, PictureRow))


def _fields(row: Mapping[str, Any], kind: type[OwnPicture]) -> dict[str, Any]:
    cost = row["cost_micro_usd"]
    return {
        **{name: row[name] for name in kind.model_fields if name in row},
        "image_id": row["id"],
        "cost_usd": None if cost is None else usd(cost),
        "saved_usd": usd(row["saved_micro_usd"]),
        "cached": bool(row["cached"]),
        "created_at": iso_time(row["created_ms"]),
    }


def full_receipt(receipt: Receipt, prompt: str | None) -> FullReceipt:
    row = receipt.row
    finished = row["finished_ms"]
    images = [
        FullReceiptImage(
            url=address,
            removed=address is None,
            **{name: getattr(image, name) for name in FullReceiptImage.model_fields if hasattr(image, name)},
        )
        for image, address in receipt.images
    ]
    return FullReceipt(
        **generation_row(row).model_dump(exclude={"images"}),
        request=row["request"],
        prompt=prompt,
        images=images,
        adjustments=[Adjustment(**adjustment_body(adjustment)) for adjustment in receipt.adjustments],
        reused=receipt.reused,
        saved_usd=usd(receipt.saved_micro_usd),
        cached=receipt.cached,
        repeat_body=None if prompt is None else {"model": row["model"], **row["request"]},
        latency_s=None if finished is None else (finished - row["created_ms"]) / 1000,
    )
