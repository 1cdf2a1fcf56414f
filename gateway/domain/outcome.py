"""What an upstream event proves: was the picture bought, may the call be repeated, what is the caller told.

The money rules (docs/decisions) allow a retry only of what provably was not bought. Anything lost after the first
byte was sent is `unknown`: it is held, never repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from gateway.errors import (
    DarkroomError,
    InvalidRequest,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
)


class Proof(StrEnum):
    """What is known of the charge after an event."""

    NOT_BOUGHT = "not_bought"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class NotSent:
    """The connection was refused or could not be made in time: no byte of the request left."""

    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The request may have left and no whole answer came: reset, closed, short, past the deadline."""

    reason: str
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer of 400 and above. `enveloped`: it came in the provider's own JSON error envelope."""

    status: int
    message: str
    enveloped: bool
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A 2xx (or a redirect) whose body is not an answer: HTML, truncated JSON, no images."""

    status: int
    reason: str


UpstreamEvent = NotSent | Lost | Refused | Unreadable
Remedy = Literal["refuse", "retry", "other_key"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`remedy`: "retry" after a pause, try an "other_key" at once, or "refuse" the caller with `error`.

    `pause_s` is what the provider asked for; None leaves it to us.
    """

    proof: Proof
    remedy: Remedy
    error: DarkroomError
    pause_s: float | None = None


class UpstreamFailure(Exception):
    """Raised by a provider with the event it met."""

    def __init__(self, event: UpstreamEvent) -> None:
        super().__init__(repr(event))
        self.event = event


def judge(event: UpstreamEvent) -> Verdict:
    """What `event` proves, whether it may be tried again, and the refusal if it is not."""
    match event:
        case NotSent():  # the reason names hosts and ports: that is for the log, not for callers
            error: DarkroomError = ProviderUnavailable("The provider can't be reached.", retry_after_s=5, charged="no")
            return Verdict(Proof.NOT_BOUGHT, "retry", error)
        case Lost(_, timed_out):
            said = "did not answer in time" if timed_out else "broke off before its answer was whole"
            return Verdict(
                Proof.UNKNOWN,
                "refuse",
                ProviderTimeout(
                    f"The provider {said}. It may have charged for the picture, so the call is not repeated.",
                    charged="unknown",
                    should_retry=False,
                ),
            )
        case Unreadable(status, reason):
            return Verdict(
                Proof.UNKNOWN,
                "refuse",
                ProviderError(
                    f"The provider answered {status} with something that is not an answer: {reason}.",
                    charged="unknown",
                    should_retry=False,
                ),
            )
        case Refused():
            return _judge_refusal(event)


def _judge_refusal(event: Refused) -> Verdict:
    """Failed calls in the provider's envelope are not charged (contract: Errors); 429 is proof by its status."""
    if event.status == 429 or (event.status == 503 and event.enveloped):
        return Verdict(
            Proof.NOT_BOUGHT,
            "retry",
            ProviderUnavailable(
                f"The provider is at its limit ({event.status}): {event.message}",
                retry_after_s=event.retry_after_s or 5,
                charged="no",
            ),
            event.retry_after_s,
        )
    if not event.enveloped:
        message = f"The provider's side answered {event.status} without its own error body: {event.message}"
        refusal = ProviderTimeout if event.status == 504 else ProviderError
        return Verdict(Proof.UNKNOWN, "refuse", refusal(message, charged="unknown", should_retry=False))
    if event.status in {401, 403}:
        return Verdict(
            Proof.NOT_BOUGHT,
            "other_key",
            ProviderUnavailable(
                f"The provider refused the gateway's key ({event.status}): {event.message} "
                "The operator has to renew the provider key or its credits.",
                retry_after_s=60,
                charged="no",
            ),
        )
    if event.status in {400, 413, 422}:
        return Verdict(Proof.NOT_BOUGHT, "refuse", InvalidRequest(event.message, charged="no"))
    error = ProviderError(f"The provider failed ({event.status}): {event.message}", charged="no", should_retry=False)
    return Verdict(Proof.NOT_BOUGHT, "refuse", error)
