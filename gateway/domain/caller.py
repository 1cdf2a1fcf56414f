"""The caller: a key, its user and its team, as the hot path needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from gateway.domain.api_key import Mode
from gateway.domain.limits import Limit, Metric
from gateway.errors import InvalidApiKey, KeyDisabled, ModelNotAllowed

CacheScope = Literal["global", "team", "user"]


class Unusable(StrEnum):
    """Why a key does not work; of several reasons the one that is hardest to cure, which is the first here."""

    USER_DELETED = "user_deleted"
    DELETED = "deleted"
    TEAM_DELETED = "team_deleted"
    DISABLED = "disabled"
    EXPIRED = "expired"


_CURES = {
    Unusable.USER_DELETED: "was deleted with its user. Ask an administrator for a key of another user.",
    Unusable.DELETED: "was deleted. Ask an administrator for a new one.",
    Unusable.TEAM_DELETED: (
        "does not work, because the team of its user was deleted. A new key of this user would not either: "
        "ask an administrator to move the user to another team; the key works again then."
    ),
    Unusable.DISABLED: "is disabled. Ask an administrator to enable it, or for a new one.",
    Unusable.EXPIRED: "has expired. Ask an administrator for a new one.",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `models` None = all. `limits` are all that apply, widest scope first. `labels` merge team, user, key.

    `disabled_ms` is when the key was disabled, or it, its user or its team deleted; `disabled_by` is which of them.
    `request_limits` are those of `limits` that count requests, each with the key of its count; `request_policy` is what
    callers read of them, `mode_name` the plain text of `mode`. They are made once, for calls by the thousand.
    """

    key_id: str
    key_prefix: str
    key_hash: str
    user_id: str
    team_id: str | None
    mode: Mode
    models: frozenset[str] | None
    labels: Mapping[str, str]
    limits: tuple[Limit, ...]
    expires_ms: int | None = None
    disabled_ms: int | None = None
    disabled_by: Unusable = Unusable.DISABLED
    request_limits: tuple[tuple[Limit, str], ...] = field(init=False, compare=False, repr=False)
    request_policy: str = field(init=False, compare=False, repr=False)
    mode_name: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        counted = (limit for limit in self.limits if limit.metric is Metric.REQUESTS)
        keyed = tuple((each, f"{self.mode}/{each.scope}/{each.scope_id}/{each.window}") for each in counted)
        object.__setattr__(self, "request_limits", keyed)
        object.__setattr__(self, "request_policy", ", ".join(limit.policy for limit, _ in keyed))
        object.__setattr__(self, "mode_name", self.mode.value)

    def check_usable(self, now_ms: int) -> None:
        """Raises InvalidApiKey for an expired key, KeyDisabled for a disabled one."""
        if self.disabled_ms is not None and self.disabled_ms <= now_ms:
            raise KeyDisabled(f"The key {self.key_prefix}... {_CURES[self.disabled_by]}")
        if self.expires_ms is not None and self.expires_ms <= now_ms:
            raise InvalidApiKey(f"The key {self.key_prefix}... {_CURES[Unusable.EXPIRED]}")

    def check_model(self, model: str) -> None:
        if self.models is not None and model not in self.models:
            allowed = ", ".join(sorted(self.models)) or "none"
            raise ModelNotAllowed(f"The key {self.key_prefix}... may not use {model}; it may use: {allowed}.")

    def cache_scope(self, scope: CacheScope) -> str:
        """Whose entries this caller shares. A user without a team is its own."""
        if scope == "global":
            return "global"
        if scope == "team" and self.team_id is not None:
            return f"team:{self.team_id}"
        return f"user:{self.user_id}"


def effective_limits(*, defaults: Sequence[Limit], own: Sequence[Limit]) -> tuple[Limit, ...]:
    """A user's own limit replaces the default of the same metric and window; widest scope first, one order for all."""
    order = {"team": 0, "user": 1, "key": 2}
    chosen = {(limit.scope, limit.metric, limit.window): limit for limit in (*defaults, *own)}
    return tuple(sorted(chosen.values(), key=lambda limit: (order[limit.scope], limit.metric, limit.window)))
