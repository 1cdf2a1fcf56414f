"""The one module that makes HTTP clients, and the one that says what a broken call proves.

aiohttp's session: httpx's pool takes 20 ms of CPU a call with 256 calls waiting. It never repeats a POST by itself (its
`IDEMPOTENT_METHODS` lack it), so what fails here failed once.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict
from yarl import URL

from gateway import __version__
from gateway.domain.outcome import Lost, NotSent

USER_AGENT = f"darkroom/{__version__}"
# identity: what is packed unpacks before it can be counted, and a stack of codings past any cap
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": USER_AGENT}

_ZLIB = frozenset({"gzip", "x-gzip", "deflate"})
_EITHER_HEADER = 32 + zlib.MAX_WBITS

TRANSPORT_ERRORS = (aiohttp.ClientError, OSError)
"""All that a call over these clients raises."""

# Servers drop idle connections after 5 s and more. A POST on a connection the server is just closing is lost
# without proof whether it was read, so ours go first.
_KEEPALIVE_S = 4.0


class BodyTooLong(Exception):
    """More bytes came than the cap allows."""


class Upstream:
    """Calls with as many connections as there are calls; callers set the deadline with `asyncio.timeout`.

    No cookies, no redirects, no proxies of the environment: none of these may a call of ours have. `resolver` decides
    which addresses are dialled. CA certificates come from `SSL_CERT_FILE` or `SSL_CERT_DIR`, else from certifi.
    """

    def __init__(self, *, connect_timeout_s: float, resolver: AbstractResolver | None = None) -> None:
        self._context = httpx.create_ssl_context()
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        # "connect" spans name resolution too, "sock_connect" the dialling alone
        self._timeout = aiohttp.ClientTimeout(connect=connect_timeout_s, sock_connect=connect_timeout_s)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: URL | str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> AsyncIterator[Answer]:
        """The answer once its head is there; its body comes while the block lasts. Raises TRANSPORT_ERRORS."""
        async with self._open().request(
            method,
            url,
            params=params,
            headers={**_HEADERS, **headers},
            data=content,
            allow_redirects=False,
            timeout=self._timeout,
        ) as answer:
            yield Answer(answer)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:  # it belongs to the running loop
            connector = aiohttp.TCPConnector(
                limit=0, keepalive_timeout=_KEEPALIVE_S, ssl=self._context, resolver=self._resolver
            )
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
            )
        return self._session

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


class Answer:
    """What a server answered. `headers` by name in any case; the first of equal names counts."""

    __slots__ = ("_answer", "headers", "status")

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.status = answer.status
        self.headers = _readable(answer.headers)

    async def read(self, max_bytes: int) -> bytes:
        """The whole body, unpacked. Raises BodyTooLong as soon as there is more, and TRANSPORT_ERRORS."""
        pieces = self._answer.content.iter_any()
        codings = ", ".join(self._answer.headers.getall("content-encoding", ())).lower()
        if "," in codings:
            raise aiohttp.ClientPayloadError("one content coding on top of another")
        return await (_unpacked if codings in _ZLIB else _joined)(pieces, max_bytes)


def _readable(headers: Mapping[str, str]) -> Mapping[str, str]:
    """As text that can be written down again: aiohttp leaves bytes that are no UTF-8 as lone surrogates."""
    if all(value.isascii() for value in headers.values()):
        return headers
    return CIMultiDict(
        (name, value.encode(errors="surrogateescape").decode("latin-1")) for name, value in headers.items()
    )


async def _joined(pieces: AsyncIterator[bytes], max_bytes: int) -> bytes:
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > max_bytes:
            raise BodyTooLong(f"more than {max_bytes} bytes")
    return bytes(body)


async def _unpacked(pieces: AsyncIterator[bytes], max_bytes: int) -> bytes:
    """From a server that packs though it was asked not to. No more is unpacked than may come: a thousandth of it may be
    all that was sent.
    """
    unpacker = zlib.decompressobj(_EITHER_HEADER)
    body = bytearray()
    try:
        async for piece in pieces:
            body += unpacker.decompress(piece, max_bytes + 1 - len(body))
            if len(body) > max_bytes:
                raise BodyTooLong(f"more than {max_bytes} bytes")
    except zlib.error as exc:
        raise aiohttp.ClientPayloadError(f"it can't be unpacked: {exc}") from exc
    if not unpacker.eof:
        raise aiohttp.ClientPayloadError("it ends before what was packed does")
    return bytes(body)


def event_of(exc: BaseException) -> NotSent | Lost:
    """What a failed call proves: only a failed or timed-out connect (name resolution and TLS included) proves that
    nothing was sent.
    """
    # a parser's complaint quotes the body, and its `str` the complaint's repr, in which no line ends
    said = exc.message if isinstance(exc, aiohttp.ClientResponseError) else str(exc)
    reason = (said or type(exc).__name__).splitlines()[0][:200]
    if isinstance(exc, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return NotSent(reason)
    return Lost(reason, timed_out=isinstance(exc, asyncio.TimeoutError))
