"""Estimates that learn from what a purchase really cost, on both engines."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from gateway.catalog import load_catalog
from gateway.domain.image_request import ImageRequest, parse_request
from gateway.domain.model import Model
from gateway.domain.pricing import PriceRule
from gateway.services.prices import PriceBook
from gateway.storage.database import Database


def model(rule: PriceRule | None = None) -> Model:
    found = load_catalog(None)["flux-pro"]
    return replace(found, price=rule or PriceRule("image", 50_000))


def request(of: Model, **fields) -> ImageRequest:
    return parse_request(
        {"model": "flux-pro", "prompt": "A fox", "image_size": {"width": 1024, "height": 1024}} | fields, of
    )


@pytest.fixture
async def prices(database: Database) -> PriceBook:
    book = PriceBook(database)
    await book.load()
    return book


async def learn(prices: PriceBook, of: Model, cost: int, images: int = 1, provider: str = "aimlapi") -> None:
    await prices.learn(request(of), provider, cost_micro_usd=cost, images=images)


async def test_the_list_stands_until_something_costs_more(prices: PriceBook):
    assert prices.rule(model(), "aimlapi") == PriceRule("image", 50_000)


async def test_the_next_estimate_covers_what_the_last_cost_and_is_never_lowered(prices: PriceBook):
    await learn(prices, model(), 65_001)
    assert prices.rule(model(), "aimlapi") == PriceRule("image", 65_001)
    await learn(prices, model(), 60_000)
    assert prices.rule(model(), "aimlapi") == PriceRule("image", 65_001)


async def test_a_cost_of_several_images_is_shared_out_and_rounded_up(prices: PriceBook):
    await learn(prices, model(), 250_001, images=4)
    assert prices.rule(model(), "aimlapi") == PriceRule("image", 62_501)


async def test_a_price_by_megapixels_is_raised_by_megapixels(prices: PriceBook):
    by_size = model(PriceRule("megapixel", 10_000))
    large = request(by_size, image_size={"width": 1440, "height": 1440})
    await prices.learn(large, "aimlapi", cost_micro_usd=30_000, images=1)
    assert prices.rule(by_size, "aimlapi") == PriceRule("megapixel", 15_000)


async def test_a_lesson_is_of_one_model_at_one_provider(prices: PriceBook):
    await learn(prices, model(), 65_000)
    assert prices.rule(model(), "another") == model().price
    assert prices.rule(replace(model(), name="another"), "aimlapi") == model().price


async def test_a_lesson_outlives_a_restart(prices: PriceBook, database: Database):
    await learn(prices, model(), 65_000)
    await learn(prices, model(), 70_000)
    again = PriceBook(database)
    await again.load()
    assert again.rule(model(), "aimlapi") == PriceRule("image", 70_000)


@pytest.mark.parametrize("listed", [PriceRule("image", 40_000), PriceRule("megapixel", 50_000)])
async def test_a_lesson_lapses_when_the_list_changes(prices: PriceBook, database: Database, listed: PriceRule):
    await learn(prices, model(), 65_000)
    again = PriceBook(database)
    await again.load()
    assert again.rule(model(listed), "aimlapi") == listed
    await learn(again, model(listed), 90_000)
    assert again.rule(model(listed), "aimlapi").unit_micro_usd > listed.unit_micro_usd


async def test_a_charge_without_a_picture_or_without_a_size_teaches_too(prices: PriceBook):
    await learn(prices, model(), 70_000, images=0)
    assert prices.rule(model(), "aimlapi") == PriceRule("image", 70_000)
    by_size = model(PriceRule("megapixel", 10_000))
    sizeless = replace(by_size, roles=msgspec.structs.replace(by_size.roles, size=None))
    await learn(prices, sizeless, 30_000)
    assert prices.rule(sizeless, "aimlapi") == PriceRule("megapixel", 30_000)
