"""Answers that replicas share, between the memory of each and SQL, which stays the truth."""

from __future__ import annotations

from typing import Protocol

from gateway.storage.response_cache import Entry


class SharedAnswers(Protocol):
    async def find(self, fingerprint: str) -> Entry | None:
        """The entry, if it is here."""

    def keep(self, entry: Entry) -> None:
        """Put an entry that SQL holds. Waits for nothing."""

    def drop(self, fingerprint: str) -> None:
        """The entry was purged or replaced in SQL. Waits for nothing."""


class NothingShared:
    """Of a process that shares its answers through SQL alone."""

    async def find(self, fingerprint: str) -> Entry | None: ...

    def keep(self, entry: Entry) -> None: ...

    def drop(self, fingerprint: str) -> None: ...
