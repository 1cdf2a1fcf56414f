"""What an answer comes to, and what its pictures must be. Pure, but for the shapes they are kept in."""

from __future__ import annotations

from gateway.domain.answer import ProviderAnswer
from gateway.domain.image_request import ImageRequest
from gateway.domain.pricing import PriceRule
from gateway.services.publication import Expected
from gateway.storage.generations import Charge

_EXTENSIONS = {"jpeg": "jpg", "png": "png", "webp": "webp"}


def charge_of(answer: ProviderAnswer, request: ImageRequest, rule: PriceRule, estimate_micro_usd: int) -> Charge:
    """What the provider says it charged, else the price rule for the images that came."""
    width, height = request.size
    came = len(answer.images)
    cost = answer.cost_micro_usd
    if cost is None:
        cost = rule.cost(images=came, width=width, height=height)
    share = request.megapixels // request.images
    return Charge(cost, came, share * came, overrun=cost > estimate_micro_usd)


def expected_of(request: ImageRequest) -> Expected:
    asked_format = request.parameters[request.model.roles.format]
    return Expected(request.images, _EXTENSIONS[asked_format], request.size)
