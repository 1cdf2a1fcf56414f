"""The log lines of provider keys: one for every change of state, never with a secret or the provider's own words."""

from __future__ import annotations

from typing import Literal

import structlog

from gateway.domain.key_health import KeyHealth, KeyStatus

Mended = Literal["provider_key_circuit_closed", "provider_key_reinstated"]

_log = structlog.get_logger(__name__)
_EVENTS = {
    KeyStatus.COOLING: "provider_key_cooling",
    KeyStatus.EJECTED: "provider_key_ejected",
    KeyStatus.OUT_OF_CREDITS: "provider_key_out_of_credits",
    KeyStatus.CIRCUIT_OPEN: "provider_key_circuit_opened",
}


def log_change(
    provider: str, key_id: str, *, before: KeyStatus, health: KeyHealth, now_s: float, mended: Mended
) -> None:
    """Says nothing unless the state changed. `mended`: the event of a key that is back."""
    after = health.status_at(now_s)
    if after is before:
        return
    if after is KeyStatus.HEALTHY:
        _log.info(mended, provider=provider, key_id=key_id, was=before.value)
        return
    for_s = None if health.until_s is None else round(health.until_s - now_s, 3)
    _log.warning(_EVENTS[after], provider=provider, key_id=key_id, reason=health.reason, for_s=for_s)
