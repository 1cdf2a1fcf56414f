"""What an upstream event proves: was the picture bought, may the call be repeated, what becomes of the key, and what
is the caller told. One table, `RULES`, says all of it.

The money rules (docs/decisions) allow a retry only of what provably was not bought. Anything lost after the first
byte was sent is `unknown`: it is held, never repeated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from gateway.errors import (
    Charged,
    DarkroomError,
    InvalidRequest,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
)


class Proof(StrEnum):
    """What is known of the charge after an event."""

    NOT_BOUGHT = "not_bought"
    BOUGHT = "bought"
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
    out_of_credits: bool = False


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A 2xx (or a redirect) whose body is not an answer: HTML, truncated JSON, no images."""

    status: int
    reason: str


UpstreamEvent = NotSent | Lost | Refused | Unreadable


class Observation(StrEnum):
    """What was seen of a call, told apart as far as the rules differ."""

    ANSWERED = "answered"
    CONNECT_FAILED = "connect_failed"
    ANSWER_LOST = "answer_lost"
    TIMED_OUT = "timed_out"
    UNREADABLE = "unreadable"
    BAD_REQUEST = "bad_request"
    KEY_REFUSED = "key_refused"
    OUT_OF_CREDITS = "out_of_credits"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    NOT_SERVED = "not_served"
    FAILED = "failed"
    UNEXPLAINED = "unexplained"
    UNEXPLAINED_TIMEOUT = "unexplained_timeout"


Remedy = Literal["keep", "retry", "other_key", "refuse", "hold"]
KeyEffect = Literal["sound", "cool", "eject", "await_credits", "fault"]
_CHARGED: Mapping[Proof, Charged] = {Proof.NOT_BOUGHT: "no", Proof.BOUGHT: "yes", Proof.UNKNOWN: "unknown"}


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table.

    `remedy`: "keep" the answer, "retry" after a pause, try an "other_key" at once, "refuse" the caller, or refuse it
    and "hold" the money until the books tell. `key`: what the event says of the provider key. `refusal` and
    `message` make the caller's error; the message may name the event's fields. `retry_after_s` is what the caller is
    told where the provider said nothing; None where waiting cures nothing.
    """

    proof: Proof
    remedy: Remedy
    key: KeyEffect
    refusal: type[DarkroomError] = DarkroomError
    message: str = ""
    retry_after_s: float | None = None
    should_retry: bool | None = None

    @property
    def charged(self) -> Charged:
        return _CHARGED[self.proof]


_NOT_REPEATED = "It may have charged for the picture, so the call is not repeated."
_AT_ITS_LIMIT = "The provider is at its limit ({status}): {message}"
_NO_ENVELOPE = "The provider's side answered {status} without its own error body: {message}"

RULES: Mapping[Observation, Rule] = {
    Observation.ANSWERED: Rule(Proof.BOUGHT, "keep", "sound"),
    Observation.CONNECT_FAILED: Rule(  # the reason names hosts and ports: that is for the log, not for callers
        *(Proof.NOT_BOUGHT, "retry", "fault", ProviderUnavailable),
        "The provider can't be reached.",
        retry_after_s=5,
    ),
    Observation.ANSWER_LOST: Rule(
        *(Proof.UNKNOWN, "hold", "fault", ProviderTimeout),
        f"The provider broke off before its answer was whole. {_NOT_REPEATED}",
        should_retry=False,
    ),
    Observation.TIMED_OUT: Rule(
        *(Proof.UNKNOWN, "hold", "fault", ProviderTimeout),
        f"The provider did not answer in time. {_NOT_REPEATED}",
        should_retry=False,
    ),
    Observation.UNREADABLE: Rule(
        *(Proof.UNKNOWN, "hold", "fault", ProviderError),
        "The provider answered {status} with something that is not an answer: {reason}.",
        should_retry=False,
    ),
    Observation.BAD_REQUEST: Rule(Proof.NOT_BOUGHT, "refuse", "sound", InvalidRequest, "{message}"),
    Observation.KEY_REFUSED: Rule(
        *(Proof.NOT_BOUGHT, "other_key", "eject", ProviderUnavailable),
        "The provider refused the gateway's key ({status}): {message} The operator has to renew the provider key.",
        retry_after_s=60,
    ),
    Observation.OUT_OF_CREDITS: Rule(
        *(Proof.NOT_BOUGHT, "other_key", "await_credits", ProviderUnavailable),
        "The gateway's account at the provider has no credits ({status}): {message} The operator has to top it up.",
        retry_after_s=60,
    ),
    Observation.RATE_LIMITED: Rule(
        *(Proof.NOT_BOUGHT, "retry", "cool", ProviderUnavailable), _AT_ITS_LIMIT, retry_after_s=5
    ),
    Observation.OVERLOADED: Rule(
        *(Proof.NOT_BOUGHT, "retry", "fault", ProviderUnavailable), _AT_ITS_LIMIT, retry_after_s=5
    ),
    Observation.NOT_SERVED: Rule(  # an unknown model or route: nothing against the key, and no other call is hurt
        *(Proof.NOT_BOUGHT, "refuse", "sound", ProviderError),
        "The provider does not serve this call ({status}): {message}",
        should_retry=False,
    ),
    Observation.FAILED: Rule(
        *(Proof.NOT_BOUGHT, "refuse", "fault", ProviderError),
        "The provider failed ({status}): {message}",
        should_retry=False,
    ),
    Observation.UNEXPLAINED: Rule(*(Proof.UNKNOWN, "hold", "fault", ProviderError), _NO_ENVELOPE, should_retry=False),
    Observation.UNEXPLAINED_TIMEOUT: Rule(
        *(Proof.UNKNOWN, "hold", "fault", ProviderTimeout), _NO_ENVELOPE, should_retry=False
    ),
}

_BY_STATUS: Mapping[int, Observation] = {
    400: Observation.BAD_REQUEST,
    401: Observation.KEY_REFUSED,
    403: Observation.KEY_REFUSED,
    413: Observation.BAD_REQUEST,
    422: Observation.BAD_REQUEST,
    503: Observation.OVERLOADED,
}
"""Of refusals in the provider's envelope: failed calls in it are not charged (contract: Errors)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `RULES` say of one event. `error` is for the caller, if nothing else helps.

    `pause_s` is how long the provider asked to be left alone; None leaves it to us.
    """

    observation: Observation
    proof: Proof
    remedy: Remedy
    key: KeyEffect
    error: DarkroomError
    pause_s: float | None = None


class UpstreamFailure(Exception):
    """Raised by a provider with the event it met."""

    def __init__(self, event: UpstreamEvent) -> None:
        super().__init__(repr(event))
        self.event = event


def observe(event: UpstreamEvent) -> Observation:
    """Which row of `RULES` an event falls under."""
    match event:
        case NotSent():
            return Observation.CONNECT_FAILED
        case Lost(_, timed_out):
            return Observation.TIMED_OUT if timed_out else Observation.ANSWER_LOST
        case Unreadable():
            return Observation.UNREADABLE
        case Refused():
            return _observe_refusal(event)


def _observe_refusal(event: Refused) -> Observation:
    if event.status == 429:  # whoever says it: a call that was turned away at the door was not charged
        return Observation.RATE_LIMITED
    if not event.enveloped:
        return Observation.UNEXPLAINED_TIMEOUT if event.status == 504 else Observation.UNEXPLAINED
    if event.status == 403 and event.out_of_credits:
        return Observation.OUT_OF_CREDITS
    return _BY_STATUS.get(event.status, Observation.FAILED if event.status >= 500 else Observation.NOT_SERVED)


def judge(event: UpstreamEvent) -> Verdict:
    """What `event` proves, what is to be done, and the refusal if nothing helps."""
    observation = observe(event)
    rule = RULES[observation]
    asked_s = event.retry_after_s if isinstance(event, Refused) and rule.remedy == "retry" else None
    error = rule.refusal(
        rule.message.format_map(dataclasses.asdict(event)),
        charged=rule.charged,
        retry_after_s=asked_s or rule.retry_after_s,
        should_retry=rule.should_retry,
    )
    return Verdict(observation, rule.proof, rule.remedy, rule.key, error, asked_s)
