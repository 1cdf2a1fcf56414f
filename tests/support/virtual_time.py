"""An event loop whose clock stands still until it is told to move: timers without waiting for them."""

from __future__ import annotations

import asyncio


class VirtualLoop(asyncio.SelectorEventLoop):
    """`loop.time` is virtual. Run it with something ready at all times: it would wait for timers in real time."""

    def __init__(self) -> None:
        self._now_s = 0.0
        super().__init__()

    def time(self) -> float:
        return self._now_s

    def settle(self) -> None:
        """Let every task run that can."""
        for _ in range(12):
            self.run_until_complete(asyncio.sleep(0))

    def advance(self, seconds: float) -> None:
        """Let time pass, and what was due in it happen."""
        self._now_s += seconds
        self.settle()
