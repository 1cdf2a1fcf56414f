"""How often an address may try keys at the door.

Keys have 190 random bits, so nobody guesses one: this keeps guessing from costing anything, and shows in the log of
proxies as 429. In memory, for each process.
"""

from __future__ import annotations

from collections import OrderedDict

_ATTEMPTS = 10
_PERIOD_S = 300.0
_ADDRESSES = 10_000


class SignInThrottle:
    """`attempts` failures within `period_s`; then one more as each of them grows old."""

    def __init__(self, *, attempts: int = _ATTEMPTS, period_s: float = _PERIOD_S) -> None:
        self._attempts = attempts
        self._period_s = period_s
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def wait_s(self, address: str, now_s: float) -> float:
        """Seconds until this address may try; 0: now."""
        recent = [at for at in self._failures.get(address, ()) if at > now_s - self._period_s]
        if len(recent) < self._attempts:
            return 0
        return max(1.0, recent[0] + self._period_s - now_s)

    def failed(self, address: str, now_s: float) -> None:
        recent = [at for at in self._failures.pop(address, ()) if at > now_s - self._period_s]
        self._failures[address] = [*recent, now_s][-self._attempts :]
        while len(self._failures) > _ADDRESSES:
            self._failures.popitem(last=False)
