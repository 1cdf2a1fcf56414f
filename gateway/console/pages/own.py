"""What a caller sees: what its key and its user spend, save and have left, and its own pictures. Nothing else."""

from __future__ import annotations

import asyncio
import datetime as dt

from starlette.responses import Response

from gateway.console.page import Page, View
from gateway.console.pages.pictures import image_id, receipt_parameters, snippets
from gateway.console.periods import PRESETS, read_period

_PAGE = 48


async def mine(page: Page) -> Response:
    period = read_period(page.query, dt.datetime.now(dt.UTC), default="month")
    usage, pictures = await asyncio.gather(
        page.api.get("/v1/usage", **period.range), page.api.get("/v1/generations", limit=8)
    )
    limits = [_in_use(limit) for limit in usage["limits"]]
    return page.show("mine.html", usage=usage, limits=limits, period=period, presets=PRESETS, pictures=pictures["data"])


def _in_use(limit: dict[str, str]) -> dict[str, object]:
    """A limit as callers are told of it, with how much of it is used or held."""
    amount, left = float(limit["amount"]), float(limit["left"])
    return {**limit, "percent": 100 * max(0.0, amount - left) / amount if amount else 100}


async def pictures(page: Page) -> Response:
    query = page.query
    found = await page.api.get(
        "/v1/generations", limit=_PAGE, cursor=query.get("cursor"), q=query.get("q"), seed=query.get("seed")
    )
    return page.show("my_pictures.html", pictures=found["data"], cursor=found["next_cursor"])


async def picture(page: Page) -> Response:
    receipt = await page.api.get(f"/v1/generations/{page.id()}")
    images = [{**image, "id": None if image["url"] is None else image_id(image["url"])} for image in receipt["images"]]
    asked = receipt["parameters"]
    body = {"model": receipt["model"], **asked} if asked and "prompt" in asked else None
    return page.show(
        "my_picture.html",
        receipt={**receipt, "images": images},
        shown=receipt_parameters(asked),
        snippets=snippets(page.base_url, body),
    )


VIEWS = [
    View("mine", mine, for_administrators=False, for_callers=True),
    View("pictures", pictures, for_administrators=False, for_callers=True),
    View("pictures/{id}", picture, for_administrators=False, for_callers=True),
]
