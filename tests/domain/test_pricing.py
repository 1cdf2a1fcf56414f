"""Money as integers, and what a rule makes of a picture."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.pricing import MAX_MICRO_USD, PriceRule, megapixels, micro_usd, parse_price, usd
from gateway.errors import ConfigurationError


@pytest.mark.parametrize(
    ("dollars", "micro"),
    [
        ("0.065", 65_000),
        ("0", 0),
        (3, 3_000_000),
        (Decimal("0.0000001"), 1),
        ("0.0000011", 2),
        ("1e-3", 1_000),
        ("1000000000", MAX_MICRO_USD),
    ],
)
def test_dollars_become_micro_dollars_rounded_up(dollars: str | int | Decimal, micro: int):
    assert micro_usd(dollars) == micro


@pytest.mark.parametrize("dollars", ["", "ten", "-1", "NaN", "Infinity", "1000000000.000001", "1e99", None, [1]])
def test_what_is_no_sane_amount_is_refused(dollars):
    with pytest.raises(ValueError, match="amount"):
        micro_usd(dollars)


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        (65_000, "0.065"),
        (0, "0"),
        (1, "0.000001"),
        (10_000_000, "10"),
        (10_500_000, "10.5"),
        (-65_000, "-0.065"),
    ],
)
def test_micro_dollars_are_shown_without_trailing_zeros(micro: int, text: str):
    assert usd(micro) == text


@given(st.integers(0, MAX_MICRO_USD))
def test_an_amount_shown_reads_back_the_same(micro: int):
    assert micro_usd(usd(micro)) == micro


@pytest.mark.parametrize(
    ("width", "height", "images", "expected"),
    [(1024, 1024, 1, 1), (1024, 768, 4, 4), (1025, 1024, 1, 2), (1440, 1440, 2, 4), (256, 256, 3, 3)],
)
def test_megapixels_are_whole_ones_for_each_image(width: int, height: int, images: int, expected: int):
    assert megapixels(images=images, width=width, height=height) == expected


def test_a_rule_charges_by_image_or_by_megapixel():
    size = {"images": 2, "width": 1440, "height": 1440}
    assert PriceRule("image", 65_000).cost(**size) == 130_000
    assert PriceRule("megapixel", 50_000).cost(**size) == 200_000


@given(
    listed=st.integers(0, 10**7),
    cost=st.integers(0, 10**9),
    images=st.integers(1, 4),
    unit=st.sampled_from(["image", "megapixel"]),
)
def test_an_estimate_raised_covers_what_was_charged_and_is_never_lowered(listed, cost, images, unit):
    rule = PriceRule(unit, listed)
    size = {"images": images, "width": 1440, "height": 1440}
    raised = rule.raised_to(cost, units=rule.units(**size))
    assert raised.cost(**size) >= max(cost, rule.cost(**size))


def test_a_price_is_read_in_either_form():
    assert parse_price({"per_image_usd": "0.065"}, model="m") == PriceRule("image", 65_000)
    assert parse_price({"per_megapixel_usd": "0.05"}, model="m") == PriceRule("megapixel", 50_000)


@pytest.mark.parametrize("data", [None, {}, {"per_picture": "1"}, {"per_image_usd": "much"}, {"per_image_usd": "-1"}])
def test_a_model_without_a_sane_price_is_refused_by_name(data):
    with pytest.raises(ConfigurationError, match="flux-pro"):
        parse_price(data, model="flux-pro")
