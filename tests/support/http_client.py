"""A client for tests, over the connections that the gateway itself uses: it can hold a thousand calls open."""

from __future__ import annotations

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport


def open_client(*, connect_timeout_s: float) -> httpx.AsyncClient:
    """Waits for answers without end, and takes nothing from the environment."""
    return httpx.AsyncClient(
        transport=AiohttpTransport(client=_open_session, trust_env=False),
        timeout=httpx.Timeout(None, connect=connect_timeout_s, pool=connect_timeout_s),
        trust_env=False,
        follow_redirects=False,
    )


def _open_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())
