"""Notices between processes: something changed, a generation is over. They make fast what polls of SQL make certain.

What carries them gone: nothing is told, and nothing is kept for later; whoever waits finds out by its poll.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Hear = Callable[[str, str], None]
"""Called on the loop with the kind and id of what a notice is about; must not block."""


class Notices(Protocol):
    def tell(self, kind: str, object_id: str) -> None:
        """Tell the other processes, if they can be told. Waits for nothing."""

    async def run(self, hear: Hear) -> None:
        """Hear what the others tell, for ever. What this process tells is heard too."""


class NoNotices:
    """Of a process that is alone, or whose replicas have only SQL in common."""

    def tell(self, kind: str, object_id: str) -> None: ...

    async def run(self, hear: Hear) -> None: ...
