"""Where the bytes of pictures live, by their SHA-256.

Store gone (disk full, read-only, unmounted): `check` raises StorageFailed, and nothing new is bought; pictures
under way wait, paid and recorded, until it is back. What is read then is not missing but out of reach: StorageFailed.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from gateway.errors import StorageFailed
from gateway.threads import to_thread

PIECE_BYTES = 512 * 1024
ADDRESS_LIFE_S = 300
_TRUST_S = 1.0
_CUT_OFF_S = 3600.0
_ROOM_BYTES = 64 * 2**20  # a picture and more
Method = Literal["GET", "HEAD"]


class ImageStore(Protocol):
    @property
    def place(self) -> str:
        """Where it is, in words for its administrator."""

    async def check(self) -> None:
        """Raises StorageFailed unless bytes can be written now, as far as is known."""

    async def put(self, sha256: str, data: bytes) -> bool:
        """Keep the bytes. False: they were there already, which is no harm. Raises StorageFailed."""

    async def get(self, sha256: str) -> bytes | None:
        """Raises StorageFailed when it can't be told whether they are there; so do `contains` and `open`."""

    async def contains(self, sha256: str) -> bool: ...

    async def open(self, sha256: str, start: int, stop: int) -> AsyncIterator[bytes] | None:
        """The bytes from `start` to before `stop`, in pieces. None: they are not there."""

    async def address(self, sha256: str, method: Method) -> str | None:
        """Where they can be had without the gateway, for ADDRESS_LIFE_S. None: nowhere."""

    async def delete(self, hashes: Sequence[str]) -> None:
        """What is not there is no harm. Raises StorageFailed; some may be gone then."""

    async def tidy(self) -> None:
        """Remove what writes left that were cut off an hour ago or longer, as far as can be."""


class LocalImageStore:
    """Files at `key_of`. A file appears whole or not at all: written aside, synced, renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._aside = root / ".aside"
        self._written_s = -math.inf  # when bytes were last written, by the monotonic clock
        self._failed: tuple[Path, int] | None = None  # the folder that did not take a picture, and how large it was
        self.place = f"the folder {root}"

    async def check(self) -> None:
        """By the file system's word where bytes could be written a second ago; else by writing some. Where a picture
        could not be put, as many as it had, and there.
        """
        await to_thread(self._check)

    def _check(self) -> None:
        if time.monotonic() - self._written_s > _TRUST_S or not self._seems_fine():
            self._probe()

    def _seems_fine(self) -> bool:
        """Whether it is a folder, may be written to, and has room."""
        inside = f"{self._root}/."
        try:
            return self._has_room() and os.access(inside, os.W_OK | os.X_OK)
        except OSError:
            return False

    def _has_room(self) -> bool:
        room = os.statvfs(f"{self._root}/.")
        names = room.f_favail > 0 or room.f_files == 0  # some file systems don't count them
        return names and room.f_bavail * room.f_frsize > _ROOM_BYTES

    def _probe(self) -> None:
        self._written_s = -math.inf
        folder, size = self._failed or (self._aside, 4096)
        probe = self._aside / f"probe-{secrets.token_hex(4)}"
        try:
            with _opened_anew(probe) as file:
                file.write(bytes(size))
            if self._failed is not None:
                _move(probe, folder / probe.name)
            if not self._has_room():
                raise cannot_buy(f"less than {_ROOM_BYTES >> 20} MiB are free")
        except OSError as exc:
            raise cannot_buy(_said(exc)) from exc
        finally:
            _discard(probe)
            _discard(folder / probe.name)
        self._failed = None
        self._written_s = time.monotonic()

    async def put(self, sha256: str, data: bytes) -> bool:
        return await to_thread(self._put, sha256, data)

    def _put(self, sha256: str, data: bytes) -> bool:
        target = self._path(sha256)
        aside = self._aside / f"{sha256}-{secrets.token_hex(4)}"
        try:
            if target.exists():
                _sync_folder(target.parent)  # whoever put it may have been cut off before
                return False
            with _opened_anew(aside) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _move(aside, target)
        except OSError as exc:
            self._written_s = -math.inf
            self._failed = (target.parent, len(data))
            _discard(aside)
            raise cannot_write(_said(exc)) from exc
        self._written_s = time.monotonic()
        return True

    async def get(self, sha256: str) -> bytes | None:
        return await to_thread(self._read, sha256, 0, -1)

    async def contains(self, sha256: str) -> bool:
        return await to_thread(self._read, sha256, 0, 0) is not None

    async def open(self, sha256: str, start: int, stop: int) -> AsyncIterator[bytes] | None:
        first = await to_thread(self._read, sha256, start, min(stop - start, PIECE_BYTES))
        return None if first is None else self._pieces(sha256, first, start, stop)

    async def _pieces(self, sha256: str, first: bytes, start: int, stop: int) -> AsyncIterator[bytes]:
        """No file stays open between two pieces: nothing has to be closed when the reader goes away."""
        piece: bytes | None = first
        while piece:
            yield piece
            start += len(piece)
            piece = await to_thread(self._read, sha256, start, min(stop - start, PIECE_BYTES))

    def _read(self, sha256: str, start: int, size: int) -> bytes | None:
        try:
            with self._path(sha256).open("rb") as file:
                file.seek(start)
                return file.read(size)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise cannot_read(_said(exc)) from exc

    async def address(self, sha256: str, method: Method) -> str | None:  # noqa: ARG002
        return None

    async def delete(self, hashes: Sequence[str]) -> None:
        await to_thread(self._delete, hashes)

    def _delete(self, hashes: Sequence[str]) -> None:
        for sha256 in hashes:
            try:
                self._path(sha256).unlink(missing_ok=True)
            except OSError as exc:
                raise cannot_delete(_said(exc)) from exc

    async def tidy(self) -> None:
        await to_thread(self._tidy)

    def _tidy(self) -> None:
        for file in self._aside.glob("*"):
            with contextlib.suppress(OSError):
                if file.stat().st_mtime < time.time() - _CUT_OFF_S:
                    file.unlink()

    def names(self) -> list[str]:
        """The SHA-256 of all there is, in no order."""
        return [file.name for file in self._root.glob("??/" + "?" * 64)]

    def _path(self, sha256: str) -> Path:
        return self._root / key_of(sha256)


def key_of(sha256: str) -> str:
    """Where the bytes are in a folder or a bucket. 256 folders, which soon are there and in memory: to make one for
    nearly every picture takes longer than to write it, and a million pictures are 4,000 in each.
    """
    return f"{sha256[:2]}/{sha256}"


def _opened_anew(file: Path) -> BinaryIO:
    """For writing, its folder made if need be."""
    try:
        return file.open("xb")
    except FileNotFoundError:
        _make_folder(file.parent)
        return file.open("xb")


def _move(file: Path, target: Path) -> None:
    """The file has its new name, on disk too, its folder made if need be."""
    try:
        file.replace(target)
    except FileNotFoundError:
        _make_folder(target.parent)
        file.replace(target)
    _sync_folder(target.parent)


def _make_folder(folder: Path) -> None:
    """Those above it too. Each name is synced: else a loss of power takes the folder, and what was synced in it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


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


def _said(exc: OSError) -> str:
    return exc.strerror or str(exc)


def cannot_buy(reason: str) -> StorageFailed:
    """Of `check`."""
    return StorageFailed(
        f"The gateway can't write pictures right now ({reason}), so nothing was bought.",
        retry_after_s=30,
        charged="no",
    )


def cannot_write(reason: str) -> StorageFailed:
    return StorageFailed(f"The gateway can't write pictures right now ({reason}).", retry_after_s=30)


def cannot_read(reason: str) -> StorageFailed:
    return StorageFailed(f"The gateway can't read pictures right now ({reason}).", retry_after_s=30)


def cannot_delete(reason: str) -> StorageFailed:
    return StorageFailed(f"The gateway can't delete pictures right now ({reason}).", retry_after_s=30)
