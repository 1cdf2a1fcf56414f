"""What a purchase is expected to cost: the listed price, raised by what it really cost last."""

from __future__ import annotations

import structlog

from gateway.domain.image_request import ImageRequest
from gateway.domain.model import Model
from gateway.domain.pricing import PriceRule
from gateway.storage import price_estimates
from gateway.storage.database import Database

_BELIEVED = 10
"""Times the listed price that a lesson goes up to: one nonsense cost must not refuse every purchase after it."""

_log = structlog.get_logger(__name__)


class PriceBook:
    """Estimates by (model, provider). A lesson is kept in SQL and lapses when the listed price changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lessons: dict[tuple[str, str], tuple[PriceRule, PriceRule]] = {}

    async def load(self) -> None:
        self._lessons = await self._database.read(price_estimates.load)

    def rule(self, model: Model, provider: str) -> PriceRule:
        """The rule that the next reservation uses."""
        listed, raised = self._lessons.get((model.name, provider), (model.price, model.price))
        return raised if listed == model.price else model.price

    async def learn(self, request: ImageRequest, provider: str, *, cost_micro_usd: int, images: int) -> None:
        """After a purchase that cost more than estimated: the next one is estimated at what this one cost."""
        model = request.model
        width, height = request.size
        units = model.price.units(images=max(images, 1), width=width, height=height)
        believable = min(cost_micro_usd, _BELIEVED * model.price.unit_micro_usd * max(units, 1))
        raised = self.rule(model, provider).raised_to(believable, units=max(units, 1))  # 0: of no asked size
        self._lessons[(model.name, provider)] = (model.price, raised)
        _log.warning(
            "price_above_list",
            model=model.name,
            provider=provider,
            listed_micro_usd=model.price.unit_micro_usd,
            unit_micro_usd=raised.unit_micro_usd,
        )
        await self._database.write(
            lambda conn: price_estimates.save(conn, model.name, provider, listed=model.price, raised=raised)
        )
