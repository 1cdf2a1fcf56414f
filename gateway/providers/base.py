"""What a provider is to the rest of the house."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from gateway.domain.answer import ProviderAnswer
from gateway.domain.books import BookEntry
from gateway.domain.picture import ImageUnusable

__all__ = ["BookEntry", "BooksUnavailable", "ImageUnusable", "NoBooks", "Order", "Provider", "ProviderKey"]


@dataclass(frozen=True, slots=True)
class Order:
    """One purchase as a provider sees it.

    `generation_id` travels as `X-Client-Request-Id`, so that a lost answer can be found in the provider's
    books. `parameters` is the canonical request in full (native names, defaults filled in, sizes in pixels,
    no `model`): the upstream body is made of `upstream_model` and it alone. `traceparent` goes into a header.
    """

    generation_id: str
    upstream_model: str
    parameters: dict[str, Any]
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A credential of a provider account. `id` is public (generations, logs), `secret` never is."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"ProviderKey(id={self.id!r})"


class NoBooks(Exception):
    """This provider keeps no books that can be read."""


class BooksUnavailable(Exception):
    """The provider's books can't be read now, or not be understood. `retry_after_s`: what it asked for."""

    def __init__(self, reason: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


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

    async def balance(self, key: ProviderKey) -> int | None:
        """Of the key's account, in micro-dollars; None where the provider does not tell. Raises `BooksUnavailable`."""

    async def read_books(self, key: ProviderKey, *, since_ms: int, until_ms: int) -> list[BookEntry]:
        """Every call of the key's account that was booked in [since_ms, until_ms).

        Raises `NoBooks` where the provider keeps none, and `BooksUnavailable` when they can't be read whole.
        """

    async def close(self) -> None: ...
