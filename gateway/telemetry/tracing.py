"""Spans: each named once, and what is kept of a call in them.

Never a prompt, a key, or the message of an error, which may quote either: a refusal is its code, a defect its type.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

CALL = "darkroom.call"
"""From the request to its answer."""
RESERVATION = "darkroom.reservation"
"""The transaction that holds the money of a purchase."""
ORDER = "darkroom.order"
"""One attempt at the provider: from sending to its answer."""
FETCH = "darkroom.fetch"
"""The bytes of one picture, attempts and pauses included."""
PUBLICATION = "darkroom.publication"
"""Pictures fetched, checked, stored, and the transaction that shows them."""

Attribute = str | int | None


class Span(Protocol):
    def note(self, **attributes: Attribute) -> None:
        """Add attributes, each under `darkroom.`; None is left out."""


class Tracing(Protocol):
    """Spans of this process. A span is a child of the one around it, in tasks that it starts too."""

    is_on: bool

    def call(self, traceparent: str | None, *, ago_us: int = 0) -> AbstractContextManager[Span]:
        """A call that began `ago_us` ago, in the trace of its caller if `traceparent` names one."""

    def span(self, name: str, **attributes: Attribute) -> AbstractContextManager[Span]:
        """What leaves the block as an exception marks it as failed."""

    def traceparent(self) -> str | None:
        """Of the current span, for who is called next."""

    def close(self) -> None:
        """Send what is left. Waits for seconds at most."""


class _NoSpan:
    def note(self, **attributes: Attribute) -> None:
        pass


class NoTracing:
    """Off: nothing is made, and nothing of OpenTelemetry is imported."""

    is_on = False
    _nothing = nullcontext(_NoSpan())

    def call(self, traceparent: str | None, *, ago_us: int = 0) -> AbstractContextManager[Span]:  # noqa: ARG002
        return self._nothing

    def span(self, name: str, **attributes: Attribute) -> AbstractContextManager[Span]:  # noqa: ARG002
        return self._nothing

    def traceparent(self) -> str | None:
        return None

    def close(self) -> None:
        pass


NO_TRACING = NoTracing()
