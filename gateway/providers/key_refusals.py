"""What a caller, and so the operator, is told when no provider key can serve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from gateway.domain.key_health import KeyStatus
from gateway.errors import ProviderUnavailable
from gateway.providers.key_lane import KeyState

_MENDED_BY_HAND_S = 60.0
_SAID: Mapping[KeyStatus, str] = {
    KeyStatus.COOLING: "cooling down after the provider's rate limit",
    KeyStatus.CIRCUIT_OPEN: "resting after repeated failures",
    KeyStatus.HALF_OPEN: "being tried again after repeated failures",
    KeyStatus.OUT_OF_CREDITS: "out of credits",
    KeyStatus.EJECTED: "refused by the provider",
    KeyStatus.DISABLED: "disabled",
}
_REMEDIES: Mapping[KeyStatus, str] = {
    KeyStatus.OUT_OF_CREDITS: "top up the provider's account",
    KeyStatus.EJECTED: "renew the refused keys or reinstate them",
    KeyStatus.DISABLED: "enable a key",
}


def no_key_configured() -> ProviderUnavailable:
    return ProviderUnavailable(
        "No provider key is configured. Set AIMLAPI_API_KEY, or providers[].api_keys in the configuration.",
        charged="no",
    )


def every_key_refused() -> ProviderUnavailable:
    """To a call that was refused with each of them."""
    return ProviderUnavailable(
        "The provider refused every key there is. Renew them or their credits, or add one "
        "(AIMLAPI_API_KEY, or providers[].api_keys in the configuration).",
        retry_after_s=_MENDED_BY_HAND_S,
        charged="no",
    )


def every_key_busy() -> ProviderUnavailable:
    return ProviderUnavailable("Every provider key is at its concurrency limit.", retry_after_s=1, charged="no")


def no_key_usable(provider: str, states: Iterable[KeyState]) -> ProviderUnavailable:
    """Counts the keys by state and says what the operator has to do; waiting may cure it, unless all are disabled."""
    states = list(states)
    counts = Counter(state.state for state in states)
    why = ", ".join(f"{counts[status]} {said}" for status, said in _SAID.items() if counts[status])
    remedies = [remedy for status, remedy in _REMEDIES.items() if counts[status]]
    todo = f" The operator has to {', or '.join(remedies)}." if remedies else ""
    return ProviderUnavailable(
        f"No key of the provider {provider} is usable now: {why}.{todo}",
        retry_after_s=min(filter(None, map(_cured_in_s, states)), default=None),
        charged="no",
    )


def _cured_in_s(state: KeyState) -> float | None:
    if state.state in {KeyStatus.OUT_OF_CREDITS, KeyStatus.EJECTED}:
        return _MENDED_BY_HAND_S
    return state.until_s
