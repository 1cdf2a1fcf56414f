"""What a provider is to the rest of the house."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from gateway.domain.answer import ProviderAnswer
from gateway.domain.picture import ImageUnusable

__all__ = ["ImageUnusable", "Order", "Provider", "ProviderKey"]


@dataclass(frozen=True, slots=True)
class Order:
    """One purchase as a provider sees it.

    `generation_id` travels as `X-Client-Request-Id`, so that a lost answer can be found in the provider's
    books. `parameters` is the canonical request in full (native names, defaults filled in, sizes in pixels,
    no `model`): the upstream body is made of `upstream_model` and it alone.
    """

    generation_id: str
    upstream_model: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A credential of a provider account. `id` is public (generations, logs), `secret` never is."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"ProviderKey(id={self.id!r})"


class Provider(Protocol):
    """A vendor account. `name` is the configuration's, `kind` names the code that talks to it."""

    name: str
    kind: str

    async def buy(self, order: Order, key: ProviderKey) -> ProviderAnswer:
        """Place one order. Never retries.

        Raises `domain.outcome.UpstreamFailure` with what was observed. Returns only a whole, understood
        answer with at least one image.
        """

    async def fetch(self, address: str) -> bytes:
        """The bytes behind an address of this provider's answer. Raises `ImageUnusable`."""

    async def close(self) -> None: ...
