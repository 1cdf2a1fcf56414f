"""Thumbnails in a folder, by the SHA-256 of the picture and their size. They can all be made again.

Folder gone or full: nothing is kept, and what is asked for is made each time.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from gateway.storage.tables import blobs

_NAME = re.compile(r"([0-9a-f]{64})-[0-9]+\.webp")
_LEFT_ASIDE_S = 3600
"""What was written aside and is older than that, nobody is writing any more."""
_NOTED_EVERY_S = 3600
_KEPT_OF_FULL = 0.9
"""When there are too many, somewhat more than needed goes: the next picture is not to begin it again."""


@dataclass(frozen=True, slots=True)
class ThumbnailFile:
    path: Path
    sha256: str
    size_bytes: int
    used_s: float


class ThumbnailFiles:
    """A file appears whole or not at all. Its time of change says when it was last used, to an hour.

    Everything here waits for the disk: call it in a thread.
    """

    def __init__(self, root: Path, *, now_s: Callable[[], float] = time.time) -> None:
        self._root = root
        self._now_s = now_s

    def read(self, sha256: str, size: int) -> bytes | None:
        path = self._path(sha256, size)
        try:
            data = path.read_bytes()
            now_s = self._now_s()
            if path.stat().st_mtime < now_s - _NOTED_EVERY_S:
                os.utime(path, (now_s, now_s))
        except OSError:
            return None
        return data

    def write(self, sha256: str, size: int, data: bytes) -> None:
        path = self._path(sha256, size)
        aside = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(data)
            aside.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink()

    def all(self) -> list[ThumbnailFile]:
        """What there is, the least recently used first. Drops what was left aside."""
        return sorted(self._scan(), key=lambda file: file.used_s)

    def _scan(self) -> Iterator[ThumbnailFile]:
        for path in self._root.glob("??/*"):
            with contextlib.suppress(OSError):
                facts = path.stat()
                if match := _NAME.fullmatch(path.name):
                    yield ThumbnailFile(path, match[1], facts.st_size, facts.st_mtime)
                elif facts.st_mtime < self._now_s() - _LEFT_ASIDE_S:
                    path.unlink()

    def delete(self, files: Collection[ThumbnailFile]) -> None:
        for file in files:
            with contextlib.suppress(OSError):
                file.path.unlink()

    def _path(self, sha256: str, size: int) -> Path:
        return self._root / sha256[:2] / f"{sha256}-{size}.webp"


def superfluous(files: Collection[ThumbnailFile], living: Collection[str], *, max_bytes: int) -> list[ThumbnailFile]:
    """Of files, the least recently used first: those whose picture is gone, and what is more than `max_bytes`."""
    gone = [file for file in files if file.sha256 not in living]
    kept = [file for file in files if file.sha256 in living]
    size = sum(file.size_bytes for file in kept)
    room = max_bytes if size <= max_bytes else max_bytes * _KEPT_OF_FULL
    for file in kept:
        if size <= room:
            break
        gone.append(file)
        size -= file.size_bytes
    return gone


def living(conn: sa.Connection, hashes: Collection[str], *, at_once: int = 500) -> set[str]:
    """Those of the hashes whose bytes a picture shows."""
    every = list(hashes)
    found: set[str] = set()
    for start in range(0, len(every), at_once):
        some = blobs.c.sha256.in_(every[start : start + at_once])
        found |= set(conn.execute(sa.select(blobs.c.sha256).where(some, blobs.c.dead_since_ms.is_(None))).scalars())
    return found
