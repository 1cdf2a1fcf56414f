"""Verdicts as the provider's answers give them."""

from __future__ import annotations

from gateway.domain.outcome import KeyEffect, Lost, Refused, UpstreamEvent, Verdict, judge

_EVENTS: dict[KeyEffect, UpstreamEvent] = {
    "sound": Refused(400, "Invalid payload provided", enveloped=True),
    "cool": Refused(429, "Too many requests", enveloped=True),
    "eject": Refused(401, "Invalid API key", enveloped=True),
    "await_credits": Refused(403, "You've run out of credits.", enveloped=True, out_of_credits=True),
    "fault": Lost("the connection closed without an answer"),
}


def verdict(effect: KeyEffect, *, retry_after_s: float | None = None) -> Verdict:
    """A verdict with this effect on its key."""
    if effect == "cool":
        return judge(Refused(429, "Too many requests", enveloped=True, retry_after_s=retry_after_s))
    return judge(_EVENTS[effect])
