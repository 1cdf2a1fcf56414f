"""Fetch pictures from a provider's hosts, and from nowhere else.

An address in an answer is input from outside. Scheme, host and port are checked at every hop; what a name
resolves to is checked at the moment of dialling, so a name that changes its mind (DNS rebinding) gains
nothing.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from urllib.parse import urljoin, urlsplit

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.domain.picture import ImageUnusable
from gateway.providers.http import TRANSPORT_ERRORS, BodyTooLong, Upstream, event_of

_MAX_REDIRECTS = 3
_LONGEST_ADDRESS = 65_536
_DEFAULT_PORTS = {"https": 443, "http": 80}
_PLAIN = re.compile("[!-~]*")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

# `is_global` alone says yes to multicast, to IETF's 192.0.0.0/24 (on older Pythons) and to the 6to4 relays.
_NEVER_V4 = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
_UNICAST_V6 = IPv6Network("2000::/3")  # leaves out mapped, compatible, local, site-local and multicast addresses
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Is `address` globally routable, and every IPv4 address it embeds (NAT64, 6to4) too."""
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return ip.is_global and not ip.is_multicast and not any(ip in net for net in _NEVER_V4)
    if ip in _NAT64:
        return is_public(str(IPv4Address(ip.packed[12:])))
    if ip.sixtofour is not None:
        return is_public(str(ip.sixtofour))
    return ip in _UNICAST_V6 and ip.is_global and ip.teredo is None


class ImageFetcher:
    """`image_hosts`: `host` (the scheme's own port) or `host:port`, IPv6 literals in brackets.

    `https` only, but for listed hosts that are loopback themselves. `timeout_s` spans a whole fetch with its
    redirects, `max_bytes` caps what is received.
    """

    def __init__(self, image_hosts: Iterable[str], *, max_bytes: int = 32 * 2**20, timeout_s: float = 30.0) -> None:
        parts = [urlsplit(f"//{entry}") for entry in image_hosts]
        self._listed = {(part.hostname, part.port) for part in parts}
        self._dialled: set[tuple[str, str, int | None]] = set()  # found to be allowed: no more than are listed
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._upstream: Upstream | None = None

    async def fetch(self, address: str) -> bytes:
        """The bytes at `address`, not yet checked to be a picture. Raises `ImageUnusable`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                data = await self._follow(_parse(address))
        except BodyTooLong as exc:
            raise ImageUnusable(f"the image is too large: {exc}", permanent=True) from exc
        except TRANSPORT_ERRORS as exc:  # TimeoutError is an OSError
            raise ImageUnusable(f"the image can't be fetched: {event_of(exc).reason}", permanent=False) from exc
        if not data:
            raise ImageUnusable("the image is empty", permanent=True)
        return data

    async def close(self) -> None:
        if self._upstream is not None:
            await self._upstream.aclose()

    async def _follow(self, url: URL) -> bytes:
        for _ in range(_MAX_REDIRECTS + 1):
            found = await self._get(url)
            if isinstance(found, bytes):
                return found
            url = found
        raise ImageUnusable(f"more than {_MAX_REDIRECTS} redirects", permanent=False)

    async def _get(self, url: URL) -> bytes | URL:
        """The bytes, or where a redirect points."""
        self._check(url)
        headers = {"Accept": "image/*"}
        async with self._open().stream("GET", url, headers=headers) as response:
            if response.status in _REDIRECTS and "location" in response.headers:
                return _parse(response.headers["location"], base=str(url))
            if response.status != 200:
                raise ImageUnusable(f"the image's host answered {response.status}", permanent=False)
            return await response.read(self._max_bytes)

    def _check(self, url: URL) -> None:
        """Raises `ImageUnusable` unless this hop may be dialled."""
        host = url.host or ""
        if url.user is not None or url.password is not None or not self._may_dial(url.scheme, host, url.port):
            port = "" if url.is_default_port() else f":{url.port}"
            raise ImageUnusable(f"{url.scheme}://{host}{port} is not among the provider's image hosts", permanent=True)

    def _may_dial(self, scheme: str, host: str, port: int | None) -> bool:
        place = (scheme, host, port)
        if place in self._dialled:
            return True
        listed = (host, port) in self._listed or ((host, None) in self._listed and port == _DEFAULT_PORTS.get(scheme))
        secure = scheme == "https" or (scheme == "http" and _is_loopback(host))
        # A literal is dialled without asking the resolver, so it is judged here.
        if not (listed and secure and (_is_loopback(host) or not _is_literal(host) or is_public(host))):
            return False
        self._dialled.add(place)
        return True

    def _open(self) -> Upstream:
        if self._upstream is None:  # the resolver belongs to the running loop
            resolver = PublicResolver(host for host, _ in self._listed if host)
            self._upstream = Upstream(connect_timeout_s=min(10.0, self._timeout_s), resolver=resolver)
        return self._upstream


class PublicResolver(AbstractResolver):
    """Resolves listed names, to public addresses only; `localhost` to loopback ones only."""

    def __init__(self, hosts: Iterable[str], inner: AbstractResolver | None = None) -> None:
        self._hosts = frozenset(hosts)
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        # The connector's parser of addresses is not ours: the name is held against the list once more.
        if host not in self._hosts:
            raise OSError(f"{host} is not among the provider's image hosts")
        fits = _is_loopback if host == "localhost" else is_public
        found = [each for each in await self._inner.resolve(host, port, family) if fits(each["host"])]
        if not found:
            raise OSError(f"{host} resolves to no address that may be dialled")
        return found

    async def close(self) -> None:
        await self._inner.close()


def _parse(address: str, *, base: str = "") -> URL:
    """By the parser of the client that dials, so that both see the same host. Path and query stay as they were written,
    if that can be sent: they may be signed, and the parser would write `%2F` as `/`.
    """
    try:
        if len(address) > _LONGEST_ADDRESS:
            raise ValueError(address[:80])
        address = urljoin(base, address)
        url = URL(address)
    except ValueError as exc:
        raise ImageUnusable("the image's address is not one", permanent=True) from exc
    if not _PLAIN.fullmatch(address):
        return url
    written = URL(address, encoded=True)
    path, query = written.raw_path, written.raw_query_string
    return URL.build(scheme=url.scheme, authority=url.raw_authority, path=path, query_string=query, encoded=True)


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_literal(host) and ip_address(host).is_loopback)
