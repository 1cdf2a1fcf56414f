"""Where the bytes of pictures live, by their SHA-256.

Store gone (disk full, read-only, unmounted): `check` raises StorageFailed, and nothing new is bought; pictures
under way wait, paid and recorded, until it is back. What is read then is not missing but out of reach: StorageFailed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from pathlib import Path
from typing import Protocol

from gateway.errors import StorageFailed


class ImageStore(Protocol):
    async def check(self) -> None:
        """Raises StorageFailed unless bytes can be written now."""

    async def put(self, sha256: str, data: bytes) -> None:
        """Keep the bytes; a second time is no harm. Raises StorageFailed."""

    async def get(self, sha256: str) -> bytes | None:
        """Raises StorageFailed when it can't be told whether they are there; so does `contains`."""

    async def contains(self, sha256: str) -> bool: ...

    def delete(self, sha256: str) -> None:
        """Synchronous: called inside a transaction's thread."""

    def path(self, sha256: str) -> Path | None:
        """The local file, for stores that have one."""


class LocalImageStore:
    """Files in two levels of folders. A file appears whole or not at all: written aside, synced, renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def check(self) -> None:
        await asyncio.to_thread(self._check)

    def _check(self) -> None:
        probe = self._root / f".probe-{secrets.token_hex(4)}"
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"\0" * 4096)
        except OSError as exc:
            raise _failed(exc) from exc
        finally:
            _discard(probe)

    async def put(self, sha256: str, data: bytes) -> None:
        await asyncio.to_thread(self._put, sha256, data)

    def _put(self, sha256: str, data: bytes) -> None:
        target = self._path(sha256)
        aside = target.with_name(f".{sha256}-{secrets.token_hex(4)}")
        try:
            if target.exists():
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(target)
            _sync_folder(target.parent)
        except OSError as exc:
            _discard(aside)
            raise _failed(exc) from exc

    async def get(self, sha256: str) -> bytes | None:
        return await asyncio.to_thread(self._get, sha256)

    def _get(self, sha256: str) -> bytes | None:
        try:
            return self._path(sha256).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise _unreadable(exc) from exc

    async def contains(self, sha256: str) -> bool:
        return await asyncio.to_thread(self._contains, sha256)

    def _contains(self, sha256: str) -> bool:
        try:
            self._path(sha256).stat()
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise _unreadable(exc) from exc
        return True

    def delete(self, sha256: str) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._path(sha256).unlink()

    def names(self) -> list[str]:
        """The SHA-256 of all there is, in no order."""
        return [file.name for file in self._root.glob("??/??/*") if not file.name.startswith(".")]

    def path(self, sha256: str) -> Path | None:
        return self._path(sha256)

    def _path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256[2:4] / sha256


def _sync_folder(folder: Path) -> None:
    """Else the name may be gone after a loss of power, though the bytes are there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(file: Path) -> None:
    """What is left of a write that may have failed; the failure itself is what matters."""
    with contextlib.suppress(OSError):
        file.unlink()


def _failed(exc: OSError) -> StorageFailed:
    return StorageFailed(
        f"The gateway can't write pictures right now ({exc.strerror or exc}), so nothing was bought.",
        retry_after_s=30,
        charged="no",
    )


def _unreadable(exc: OSError) -> StorageFailed:
    return StorageFailed(f"The gateway can't read pictures right now ({exc.strerror or exc}).", retry_after_s=30)
