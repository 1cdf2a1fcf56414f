"""Entity tags of answers."""

from __future__ import annotations


def names(if_none_match: str, etag: str) -> bool:
    """RFC 9110, section 13.1.2: weak comparison, any of a list, or `*`."""
    candidates = {candidate.strip().removeprefix("W/") for candidate in if_none_match.split(",")}
    return etag in candidates or "*" in candidates
