"""The one module that makes HTTP clients, and the one that says what a broken call proves.

httpx's interface over aiohttp's connections: httpx's own pool takes 20 ms of CPU a call with 256 calls
waiting. aiohttp never repeats a POST by itself (its `IDEMPOTENT_METHODS` lack it), so what fails here failed
once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver
from httpx_aiohttp import AiohttpTransport

from gateway import __version__
from gateway.domain.outcome import Lost, NotSent

USER_AGENT = f"darkroom/{__version__}"
# identity: what is packed unpacks before it can be counted, and a stack of codings past any cap
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": USER_AGENT}

TRANSPORT_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, aiohttp.ClientError, OSError)
"""All that a call over these clients raises; aiohttp's own, because the transport maps only some of them."""

# Servers drop idle connections after 5 s and more. A POST on a connection the server is just closing is lost
# without proof whether it was read, so ours go first.
_KEEPALIVE_S = 4.0


class BodyTooLong(Exception):
    """More bytes came than the cap allows."""


class Upstream:
    """Calls with as many connections as there are calls; callers set the deadline with `asyncio.timeout`.

    httpx's requests and responses over its transport, without its client: that adds cookies, redirects, proxies of the
    environment and hooks, none of which a call of ours may have, and costs as much as the transport. `resolver` decides
    which addresses are dialled. CA certificates come from `SSL_CERT_FILE` or `SSL_CERT_DIR`, else from certifi.
    """

    def __init__(self, *, connect_timeout_s: float, resolver: AbstractResolver | None = None) -> None:
        context = httpx.create_ssl_context()
        self._transport = AiohttpTransport(
            verify=context, client=lambda: _open_session(context, resolver), trust_env=False
        )
        # aiohttp's "connect" (httpx: "pool") spans name resolution too, "sock_connect" the dialling alone.
        self._extensions = {"timeout": {"connect": connect_timeout_s, "pool": connect_timeout_s}}

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: httpx.URL | str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """The answer once its head is there; its body comes while the block lasts. Raises TRANSPORT_ERRORS."""
        sent = {**_HEADERS, **headers}
        request = httpx.Request(method, url, headers=sent, params=params, content=content, extensions=self._extensions)
        response = await self._transport.handle_async_request(request)
        try:
            if "," in response.headers.get("content-encoding", ""):
                raise httpx.DecodingError("one content coding on top of another")
            yield response
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()


def _open_session(context: ssl.SSLContext, resolver: AbstractResolver | None) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S, ssl=context, resolver=resolver)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)


async def read_capped(chunks: AsyncIterator[bytes], max_bytes: int) -> bytes:
    """All of `chunks`. Raises `BodyTooLong` as soon as more than `max_bytes` have come."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            raise BodyTooLong(f"more than {max_bytes} bytes")
    return bytes(body)


def event_of(exc: BaseException) -> NotSent | Lost:
    """What a failed call proves.

    Judged by aiohttp's exception: its transport turns every `ClientConnectionError` into httpx's
    `ConnectTimeout`, so that a connection reset after sending would look as if nothing had left. Only a
    failed or timed-out connect (name resolution and TLS included) proves that nothing was sent.
    """
    cause = exc.__cause__ if isinstance(exc.__cause__, aiohttp.ClientError) else exc
    # a parser's complaint quotes the body, and its `str` the complaint's repr, in which no line ends
    said = cause.message if isinstance(cause, aiohttp.ClientResponseError) else str(cause)
    reason = (said or type(cause).__name__).splitlines()[0][:200]
    if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return NotSent(reason)
    return Lost(reason, timed_out=isinstance(cause, asyncio.TimeoutError | httpx.TimeoutException))
