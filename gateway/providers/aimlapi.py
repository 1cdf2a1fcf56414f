"""AI/ML API: `POST {base_url}/v1/images/generations`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import httpx
import msgspec

from gateway.domain.answer import ProviderAnswer
from gateway.domain.outcome import Unreadable, UpstreamFailure
from gateway.providers.aimlapi_answer import read_answer, read_refusal
from gateway.providers.base import Order, ProviderKey
from gateway.providers.http import TRANSPORT_ERRORS, BodyTooLong, event_of, open_client, read_capped
from gateway.providers.image_fetch import ImageFetcher

_MAX_ANSWER_BYTES = 64 * 2**20  # four pictures in base64, with room


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
        self._url = f"{base_url.rstrip('/')}/v1/images/generations"
        self._timeout_s = timeout_s
        self._client = open_client(connect_timeout_s=connect_timeout_s)
        self._fetcher = ImageFetcher(image_hosts)

    async def buy(self, order: Order, key: ProviderKey) -> ProviderAnswer:
        headers = {
            "Authorization": f"Bearer {key.secret}",
            "Content-Type": "application/json",
            "X-Client-Request-Id": order.generation_id,
        }
        status = 0
        try:
            # A read time-out alone would let a body that trickles in run on for ever.
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream("POST", self._url, content=upstream_body(order), headers=headers) as response,
            ):
                status = response.status_code
                body = await read_capped(response.aiter_bytes(), _MAX_ANSWER_BYTES)
        except BodyTooLong as exc:
            raise UpstreamFailure(Unreadable(status, str(exc))) from exc
        except TRANSPORT_ERRORS as exc:  # TimeoutError is an OSError
            raise UpstreamFailure(event_of(exc)) from exc
        return _understand(status, response.headers, body)

    async def fetch(self, address: str) -> bytes:
        return await self._fetcher.fetch(address)

    async def close(self) -> None:
        await self._client.aclose()
        await self._fetcher.close()


def _understand(status: int, headers: httpx.Headers, body: bytes) -> ProviderAnswer:
    if status >= 400:
        raise UpstreamFailure(read_refusal(status, headers, body))
    if status != 200:
        raise UpstreamFailure(Unreadable(status, "only a 200 is an answer"))
    try:
        return read_answer(body, headers)
    except ValueError as exc:
        raise UpstreamFailure(Unreadable(status, str(exc))) from exc
