"""AI/ML API: `POST {base_url}/v1/images/generations`, and its books: `GET /v2/logs` and `/v2/billing`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import msgspec

from gateway.domain.answer import ProviderAnswer
from gateway.domain.books import BookEntry
from gateway.domain.outcome import Unreadable, UpstreamFailure
from gateway.providers.aimlapi_answer import read_answer, read_refusal
from gateway.providers.aimlapi_books import logs_query, read_balance, read_page
from gateway.providers.base import BooksUnavailable, Order, ProviderKey
from gateway.providers.http import TRANSPORT_ERRORS, BodyTooLong, Upstream, event_of
from gateway.providers.image_fetch import ImageFetcher

_ROUTE = "/v1/images/generations"
_MAX_ANSWER_BYTES = 64 * 2**20  # four pictures in base64, with room
_MAX_BOOKS_BYTES = 4 * 2**20  # a page of a hundred rows, with room
_MAX_BOOK_PAGES = 150  # the provider takes 200 calls a minute
_BOOKS_TIMEOUT_S = 30.0
_BOOKS_PAUSE_S = 60.0  # its 429 says no time; its limit is counted by the minute


def upstream_body(order: Order) -> bytes:
    """The JSON that is sent: the model and the canonical parameters alone, keys sorted.

    Equal orders give equal bytes, whatever order their keys came in.
    """
    return msgspec.json.encode({"model": order.upstream_model, **order.parameters}, order="sorted")


class AimlapiProvider:
    """One account at AI/ML API. `timeout_s`: the deadline of a whole call, from dialling to the last byte."""

    kind = "aimlapi"

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        image_hosts: Iterable[str],
        timeout_s: float,
        connect_timeout_s: float = 10.0,
    ) -> None:
        self.name = name
        self._base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._upstream = Upstream(connect_timeout_s=connect_timeout_s)
        self._fetcher = ImageFetcher(image_hosts)

    async def buy(self, order: Order, key: ProviderKey) -> ProviderAnswer:
        headers = {
            "Authorization": f"Bearer {key.secret}",
            "Content-Type": "application/json",
            "X-Client-Request-Id": order.generation_id,
        }
        if order.traceparent is not None:
            headers["traceparent"] = order.traceparent
        status = 0
        try:
            # A read time-out alone would let a body that trickles in run on for ever.
            async with (
                asyncio.timeout(self._timeout_s),
                self._upstream.stream(
                    "POST", self._base_url + _ROUTE, content=upstream_body(order), headers=headers
                ) as response,
            ):
                status = response.status
                body = await response.read(_MAX_ANSWER_BYTES)
        except BodyTooLong as exc:
            raise UpstreamFailure(Unreadable(status, str(exc))) from exc
        except TRANSPORT_ERRORS as exc:  # TimeoutError is an OSError
            raise UpstreamFailure(event_of(exc)) from exc
        return _understand(status, response.headers, body)

    async def fetch(self, address: str) -> bytes:
        return await self._fetcher.fetch(address)

    async def balance(self, key: ProviderKey) -> int | None:
        return read_balance(await self._read("/v2/billing", {}, key))

    async def read_books(self, key: ProviderKey, *, since_ms: int, until_ms: int) -> list[BookEntry]:
        """Its own calls only: the provider shows no key the calls of another.

        Rows that come in between two pages shift the later ones down, so a row may be seen twice, and none is missed.
        """
        found: dict[BookEntry, None] = {}
        offset = 0
        for _ in range(_MAX_BOOK_PAGES):
            query = logs_query(since_ms=since_ms, until_ms=until_ms, offset=offset)
            page = read_page(await self._read("/v2/logs", query, key))
            found |= dict.fromkeys(page.entries)
            if not page.has_more:
                return list(found)
            offset += len(page.entries)
        raise BooksUnavailable(f"the provider's logs go on after {offset} calls: ask for a shorter time")

    async def _read(self, path: str, query: Mapping[str, str], key: ProviderKey) -> bytes:
        """A page of the books. Raises BooksUnavailable, without the provider's own words: they may quote a key."""
        headers = {"Authorization": f"Bearer {key.secret}"}
        try:
            async with (
                asyncio.timeout(_BOOKS_TIMEOUT_S),
                self._upstream.stream("GET", self._base_url + path, params=query, headers=headers) as response,
            ):
                body = await response.read(_MAX_BOOKS_BYTES)
        except (BodyTooLong, *TRANSPORT_ERRORS) as exc:
            raise BooksUnavailable(f"{path} can't be read: {event_of(exc).reason}") from exc
        if response.status == 429:
            pause_s = read_refusal(429, response.headers, body).retry_after_s
            raise BooksUnavailable(f"{path} is at its rate limit", retry_after_s=pause_s or _BOOKS_PAUSE_S)
        if response.status != 200:
            raise BooksUnavailable(f"{path} was answered with {response.status}")
        return body

    async def close(self) -> None:
        await self._upstream.aclose()
        await self._fetcher.close()


def _understand(status: int, headers: Mapping[str, str], body: bytes) -> ProviderAnswer:
    if status >= 400:
        raise UpstreamFailure(read_refusal(status, headers, body))
    if status != 200:
        raise UpstreamFailure(Unreadable(status, "only a 200 is an answer"))
    try:
        return read_answer(body, headers)
    except ValueError as exc:
        raise UpstreamFailure(Unreadable(status, str(exc))) from exc
