"""The provider of test keys: it costs nothing, needs no network, and fails on demand.

Addresses hold all that is needed to draw (`sandbox:` and base64url JSON), so a picture can be fetched after a
restart. Magic seeds make the refusals, losses and delays that a caller or an operator wants to see handled.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from gateway.domain.answer import AnsweredImage, ProviderAnswer
from gateway.domain.outcome import Lost, Refused, UpstreamEvent, UpstreamFailure
from gateway.domain.picture import ImageUnusable
from gateway.providers.base import BookEntry, NoBooks, Order, ProviderKey
from gateway.providers.sandbox_picture import Sketch, draw
from gateway.threads import to_thread

_SCHEME = "sandbox:"
_PROMPT_SHOWN = 280  # characters; addresses are stored, and no picture has room for more
_LARGEST_MAGIC_SEED = 999_999


@dataclass(frozen=True, slots=True)
class MagicSeed:
    """What a test call with this seed meets. `delay_s` replaces the sandbox's own delay."""

    description: str
    event: UpstreamEvent | None = None
    delay_s: float | None = None
    one_image_fewer: bool = False
    image: Literal["drawn", "dead", "not_a_picture"] = "drawn"


def _refused(status: int, message: str, retry_after_s: float | None = None, *, out_of_credits: bool = False) -> Refused:
    return Refused(status, message, enveloped=True, retry_after_s=retry_after_s, out_of_credits=out_of_credits)


MAGIC_SEEDS: dict[int, MagicSeed] = {
    900_010: MagicSeed("Answers after 10 seconds.", delay_s=10),
    900_030: MagicSeed("Answers after 30 seconds.", delay_s=30),
    900_206: MagicSeed("One image fewer than asked, when more than one was asked.", one_image_fewer=True),
    900_400: MagicSeed("The provider refuses the request (400).", _refused(400, "Invalid payload provided")),
    900_403: MagicSeed(
        "The provider's account is out of credits (403).",
        _refused(403, "You've run out of credits.", out_of_credits=True),
    ),
    900_404: MagicSeed("Answers, but the picture's address is dead.", image="dead"),
    900_408: MagicSeed("No answer in time: the outcome is unknown.", Lost("no answer in time", timed_out=True)),
    900_415: MagicSeed("Answers, but the address holds no picture.", image="not_a_picture"),
    900_429: MagicSeed("The provider's rate limit (429).", _refused(429, "Too many requests", 1)),
    900_500: MagicSeed("The provider fails (500).", _refused(500, "Internal server error")),
    900_503: MagicSeed("The provider is overloaded (503).", _refused(503, "Service unavailable", 1)),
    900_504: MagicSeed("The answer is lost: the outcome is unknown.", Lost("the connection closed without an answer")),
}
"""Seeds that do something else than draw, for test keys only."""


class SandboxProvider:
    """Draws pictures from prompt and seed. Says no cost: the catalogue's price stands, as play money."""

    kind = "sandbox"

    def __init__(
        self,
        name: str = "sandbox",
        *,
        delay_s: float = 1.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self._delay_s = delay_s
        self._sleep = sleep

    async def buy(self, order: Order, key: ProviderKey) -> ProviderAnswer:  # noqa: ARG002  (no account)
        seed = order.parameters.get("seed") or _random_seed()
        magic = MAGIC_SEEDS.get(seed, MagicSeed("An ordinary seed."))
        await self._sleep(self._delay_s if magic.delay_s is None else magic.delay_s)
        if magic.event is not None:
            raise UpstreamFailure(magic.event)
        asked = order.parameters.get("num_images", 1)
        count = max(1, asked - 1) if magic.one_image_fewer else asked
        return ProviderAnswer(
            images=tuple(AnsweredImage(url=_address(_sketch(order, seed, i))) for i in range(count)),
            seed=seed,
            timings={"inference": self._delay_s if magic.delay_s is None else magic.delay_s},
            nsfw=(False,) * count,
            inference_id=f"sandbox-{order.generation_id}",
        )

    async def fetch(self, address: str) -> bytes:
        sketch = _read_address(address)
        image = MAGIC_SEEDS[sketch.seed].image if sketch.seed in MAGIC_SEEDS else "drawn"
        if image == "dead":
            raise ImageUnusable("the image's host answered 404", permanent=False)
        if image == "not_a_picture":
            return b"<!doctype html><title>Not a picture</title>"
        return await to_thread(draw, sketch)

    async def balance(self, key: ProviderKey) -> int | None:  # noqa: ARG002
        return None

    async def read_books(self, key: ProviderKey, *, since_ms: int, until_ms: int) -> list[BookEntry]:  # noqa: ARG002
        raise NoBooks

    async def close(self) -> None:
        """Nothing is held open."""


def _random_seed() -> int:
    return _LARGEST_MAGIC_SEED + 1 + secrets.randbelow(2**31 - _LARGEST_MAGIC_SEED - 1)


def _sketch(order: Order, seed: int, index: int) -> Sketch:
    prompt = order.parameters["prompt"]
    size = order.parameters.get("image_size", {})
    return Sketch(
        text=prompt[:_PROMPT_SHOWN],
        prompt_sha256=hashlib.sha256(prompt.encode()).hexdigest(),
        seed=seed,
        width=size.get("width", 1024),
        height=size.get("height", 768),
        format=order.parameters.get("output_format", "jpeg"),
        index=index,
    )


def _address(sketch: Sketch) -> str:
    return _SCHEME + urlsafe_b64encode(msgspec.json.encode(sketch)).decode().rstrip("=")


def _read_address(address: str) -> Sketch:
    encoded = address.removeprefix(_SCHEME)
    try:
        return msgspec.json.decode(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)), type=Sketch)
    except ValueError as exc:  # msgspec.DecodeError is one
        raise ImageUnusable("not an address of the sandbox", permanent=True) from exc
