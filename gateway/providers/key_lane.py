"""One provider key in the pool: its calls under way, its health, and who waits for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from gateway.domain.key_health import KeyHealth, KeyStatus
from gateway.providers.base import ProviderKey

LONGEST_COOL_DOWN_WAIT_S = 5.0
"""A call waits for a key that is cooling for as long as this; a longer cool-down is refused at once."""


@dataclass(frozen=True, slots=True)
class PooledKey:
    """`weight` (above 0): its share of the calls. `max_concurrency`: calls at once, in this process."""

    key: ProviderKey
    weight: float
    max_concurrency: int
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class KeyState:
    """What operators see of a key. `until_s`: seconds from now until it may serve again; None = not by itself."""

    id: str
    state: KeyStatus
    reason: str | None
    until_s: float | None
    busy: int
    served: int
    weight: float
    max_concurrency: int


@dataclass(slots=True)
class Lane:
    """`removed`: no longer configured, kept until its calls have ended. `probing`: its one probe is under way."""

    pooled: PooledKey
    health: KeyHealth = field(default_factory=KeyHealth)
    busy: int = 0
    served: int = 0
    probing: bool = False
    removed: bool = False

    @property
    def id(self) -> str:
        return self.pooled.key.id

    @property
    def has_room(self) -> bool:
        return self.busy < self.pooled.max_concurrency

    def status_at(self, now_s: float) -> KeyStatus:
        return KeyStatus.DISABLED if self.pooled.disabled else self.health.status_at(now_s)

    def rank_at(self, now_s: float) -> tuple[bool, float, float]:
        """The lowest serves next. A key to be tried again comes first, else it would rest for as long as others serve;
        then calls under way count, and calls so far, so that a quiet gateway spreads its calls too.
        """
        weight = self.pooled.weight
        return self.status_at(now_s) is not KeyStatus.HALF_OPEN, self.busy / weight, self.served / weight

    def opens_in_s(self, now_s: float) -> float | None:
        """Seconds until it may serve by itself: 0 for one that may now, None for one that somebody has to mend."""
        status = self.status_at(now_s)
        if status in {KeyStatus.HEALTHY, KeyStatus.HALF_OPEN}:
            return 0.0
        if status in {KeyStatus.COOLING, KeyStatus.CIRCUIT_OPEN} and self.health.until_s is not None:
            return max(0.0, self.health.until_s - now_s)
        return None

    def worth_waiting_for(self, now_s: float, patience_s: float) -> bool:
        """Whether a call may hope for it: not while its circuit is open, nor through a long cool-down."""
        if self.status_at(now_s) is KeyStatus.CIRCUIT_OPEN:
            return False
        opens_in_s = self.opens_in_s(now_s)
        return opens_in_s is not None and opens_in_s <= min(patience_s, LONGEST_COOL_DOWN_WAIT_S)

    def state(self, now_s: float) -> KeyState:
        opens_in_s = self.opens_in_s(now_s)
        status = self.status_at(now_s)
        return KeyState(
            id=self.id,
            state=status,
            reason=None if status in {KeyStatus.HEALTHY, KeyStatus.DISABLED} else self.health.reason,
            until_s=opens_in_s or None,
            busy=self.busy,
            served=self.served,
            weight=self.pooled.weight,
            max_concurrency=self.pooled.max_concurrency,
        )


@dataclass(frozen=True, slots=True)
class Grant:
    """A slot in use. The key is kept as it was given, whatever becomes of the lane."""

    lane: Lane
    key: ProviderKey
    probe: bool


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """`deadline_s`: by the pool's clock."""

    excluded: frozenset[str]
    deadline_s: float
    granted: asyncio.Future[Grant]
