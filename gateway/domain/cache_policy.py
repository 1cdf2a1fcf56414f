"""What the cache may do for a request: decided from the request and its `Cache-Control` alone (RFC 9111, 5.2.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

_QUOTED = re.compile(r'"[^"]*"')


@dataclass(frozen=True, slots=True)
class Directives:
    """What a request's `Cache-Control` says. `max_age_s` None = any age will do. Unknown directives are ignored."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age_s: int | None = None


PLAIN = Directives()


def parse_directives(header: str | None) -> Directives:
    """Lenient, as section 5.2 asks; a `max-age` that is no number counts as 0 (the cautious reading, section 1.2.2)."""
    if not header:
        return PLAIN
    found = {}
    for part in _QUOTED.sub(_without_commas, header.lower()).split(","):
        name, _, value = part.partition("=")
        found[name.strip()] = value.strip().strip('"')
    age = found.get("max-age")
    return Directives(
        no_cache="no-cache" in found,
        no_store="no-store" in found,
        only_if_cached="only-if-cached" in found,
        max_age_s=None if age is None else _seconds(age),
    )


def _without_commas(quoted: re.Match[str]) -> str:
    return quoted[0].replace(",", " ")


def _seconds(text: str) -> int:
    """Delta-seconds (section 1.2.2): what is too large counts as 2^31, what is no number as 0."""
    if not (text.isascii() and text.isdigit()):
        return 0
    return min(int(text), 2**31) if len(text) <= 10 else 2**31


class CachePlan(msgspec.Struct, frozen=True):
    """`readable`: an entry may answer. `storable`: the answer may be kept, and equal calls may join its purchase.

    `bypass` says why neither, for `Cache-Status` (RFC 9211, section 2.6), or is None.
    """

    readable: bool
    storable: bool
    only_if_cached: bool = False
    max_age_s: int | None = None
    bypass: str | None = None

    def accepts(self, *, created_ms: int, expires_ms: int | None, now_ms: int) -> bool:
        """Whether an entry of that age may answer this request."""
        if expires_ms is not None and expires_ms <= now_ms:
            return False
        return self.max_age_s is None or now_ms - created_ms <= self.max_age_s * 1000


def plan(*, deterministic: bool, seeded: bool, directives: Directives) -> CachePlan:
    """Only seeded requests to deterministic models are cached; `no-store` leaves the cache out of it.

    `no-cache` buys anew and replaces the entry; equal `no-cache` calls at one moment still share one purchase.
    """
    bypass = None
    if not deterministic:
        bypass = "not-deterministic"
    elif not seeded:
        bypass = "no-seed"
    elif directives.no_store:
        bypass = "no-store"
    if bypass:
        return CachePlan(False, False, directives.only_if_cached, bypass=bypass)
    return CachePlan(not directives.no_cache, True, directives.only_if_cached, directives.max_age_s)
