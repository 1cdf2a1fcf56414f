"""Money: integers of micro-dollars inside, decimal strings of dollars outside.

Unknown cost is None, never 0. The rule that priced a generation is stored with it.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import Literal

import msgspec

from gateway.errors import ConfigurationError

MICRO_PER_USD = 1_000_000
MEGAPIXEL = 1 << 20
MAX_MICRO_USD = 10**15  # a billion dollars: beyond it a number is a mistake, and it fits every engine's BIGINT


def micro_usd(dollars: str | int | Decimal) -> int:
    """Dollars to micro-dollars, rounded up. Raises ValueError for what is not a sane amount."""
    try:
        amount = Decimal(dollars)
    except (ArithmeticError, TypeError, ValueError) as exc:
        raise ValueError(f"{dollars!r} is not an amount of dollars; write it like '0.065'") from exc
    if not amount.is_finite() or not 0 <= amount <= MAX_MICRO_USD // MICRO_PER_USD:
        raise ValueError(f"{dollars!r} is not an amount between 0 and {MAX_MICRO_USD // MICRO_PER_USD} dollars")
    return int((amount * MICRO_PER_USD).to_integral_value(ROUND_CEILING))


def usd(micro: int) -> str:
    """Micro-dollars as a decimal string without trailing zeros: 65000 -> "0.065"."""
    sign, magnitude = ("-", -micro) if micro < 0 else ("", micro)
    whole, fraction = divmod(magnitude, MICRO_PER_USD)
    return f"{sign}{whole}" if not fraction else f"{sign}{whole}.{fraction:06d}".rstrip("0")


def megapixels(*, images: int, width: int, height: int) -> int:
    """Images times whole megapixels, rounded up; 1024x1024 counts as one (contract: Money)."""
    return images * -(-(width * height) // MEGAPIXEL)


class PriceRule(msgspec.Struct, frozen=True):
    """What one unit costs. `unit` is an image or a whole megapixel of one."""

    unit: Literal["image", "megapixel"]
    unit_micro_usd: int

    def units(self, *, images: int, width: int, height: int) -> int:
        return images if self.unit == "image" else megapixels(images=images, width=width, height=height)

    def cost(self, *, images: int, width: int, height: int) -> int:
        """Micro-dollars for so many images of that size."""
        return self.units(images=images, width=width, height=height) * self.unit_micro_usd

    def raised_to(self, cost_micro_usd: int, *, units: int) -> PriceRule:
        """The rule that would have estimated at least this cost: an estimate is raised by an overrun, never lowered."""
        per_unit = -(-cost_micro_usd // units)
        return self if per_unit <= self.unit_micro_usd else PriceRule(self.unit, per_unit)


def parse_price(data: dict[str, str] | None, *, model: str) -> PriceRule:
    """A rule from the catalogue's or the configuration's form. A model without a price is refused."""
    match data:
        case {"per_image_usd": str(amount)}:
            unit: Literal["image", "megapixel"] = "image"
        case {"per_megapixel_usd": str(amount)}:
            unit = "megapixel"
        case _:
            raise ConfigurationError(
                f"models: {model} has no price; give it price: {{per_image_usd: '0.065'}} "
                "or {per_megapixel_usd: '0.05'}"
            )
    try:
        return PriceRule(unit, micro_usd(amount))
    except ValueError as exc:
        raise ConfigurationError(f"models: the price of {model}: {exc}") from exc
