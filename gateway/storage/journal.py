"""The journal: usage rows on disk before their answers leave, in SQL soon after.

One `write` a row to a file opened for appending: it survives kill -9 (the page cache belongs to the kernel), not a
loss of power. Rows reach SQL in batches; a file is deleted once every row of it is there. After a crash whatever
files are left are read again from their start: rows carry their id, so a second time is no harm.

SQL gone: files grow until it is back. Disk full: `append` raises StorageFailed, and the answer does not leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog

from gateway.errors import DarkroomError, StorageFailed

_BATCH_BYTES = 256 * 1024
_SEGMENT_BYTES = 4 * 1024 * 1024
_PAUSE_S = 0.2
_PAUSE_AFTER_FAILURE_S = 1.0

_encode = msgspec.json.Encoder().encode
_log = structlog.get_logger(__name__)

Deliver = Callable[[Sequence[dict[str, Any]]], Awaitable[None]]


class LagGauge(Protocol):
    """What shows how many rows wait for SQL."""

    def set(self, value: float) -> None: ...


class Journal:
    """Appends on the event loop, delivers in a task. One process a folder."""

    def __init__(self, folder: Path, deliver: Deliver, *, lag: LagGauge) -> None:
        self._folder = folder
        self._deliver = deliver
        self._lag = lag
        folder.mkdir(parents=True, exist_ok=True)
        self._left_over = sorted(folder.glob("*.jsonl"))
        self._number = int(self._left_over[-1].stem) if self._left_over else 0
        self._fd = -1
        self._path = folder
        self._written = 0
        self._delivered = 0
        self._waiting = 0
        self._delivering = asyncio.Lock()
        self._open_segment()

    def append(self, row: Mapping[str, Any]) -> None:
        """Put a row on disk. Raises StorageFailed, and then nothing of the row is there."""
        line = _encode(row) + b"\n"
        try:
            count = os.write(self._fd, line)
            if count != len(line):
                os.ftruncate(self._fd, self._written)
                raise OSError(f"{count} of {len(line)} bytes written")
        except OSError as exc:
            raise StorageFailed(
                f"The gateway can't record this call ({exc.strerror or exc}), so it was not served.",
                retry_after_s=5,
                charged="no",
            ) from exc
        self._written += len(line)
        self._waiting += 1
        self._lag.set(self._waiting)

    async def recover(self) -> int:
        """Deliver what an earlier process left. Returns the number of rows."""
        total = 0
        for path in self._left_over:
            data = path.read_bytes()
            rows = _rows(data)
            for start in range(0, len(rows), 1000):
                await self._deliver(rows[start : start + 1000])
            total += len(rows)
            if len(rows) == data.count(b"\n"):
                path.unlink()
            else:  # a damaged disk, not a crash: keep what can't be read for whoever can
                path.rename(path.with_suffix(".damaged"))
                _log.error("journal_damaged", file=path.name)
        self._left_over = []
        return total

    async def run(self) -> None:
        """Deliver for ever; what fails is tried again."""
        while True:
            try:
                await self.flush()
                await asyncio.sleep(_PAUSE_S)
            except (DarkroomError, OSError) as exc:
                _log.warning("journal_waits", rows=self._waiting, reason=str(exc))
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)

    async def flush(self) -> None:
        """Deliver every row appended before this call."""
        async with self._delivering:
            while self._delivered < self._written:
                await self._deliver_batch()
            if self._written > _SEGMENT_BYTES:
                done = self._path
                self._open_segment()
                done.unlink()

    async def _deliver_batch(self) -> None:
        size = min(self._written - self._delivered, _BATCH_BYTES)
        data = _whole_lines(os.pread(self._fd, size, self._delivered))
        rows = _rows(data)
        await self._deliver(rows)
        self._delivered += len(data)
        self._waiting -= len(rows)
        self._lag.set(self._waiting)

    async def close(self) -> None:
        """Deliver what can be delivered; the rest waits in its file for the next start."""
        try:
            await self.flush()
        except (DarkroomError, OSError) as exc:
            _log.warning("journal_left_over", rows=self._waiting, reason=str(exc))
        else:
            self._path.unlink(missing_ok=True)
        os.close(self._fd)

    def _open_segment(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._number += 1
        self._path = self._folder / f"{self._number:08}.jsonl"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o600)
        self._written = self._delivered = 0


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def _rows(data: bytes) -> list[dict[str, Any]]:
    """The rows of whole, readable lines. A torn last line was never acknowledged: its answer had not left."""
    rows = []
    for line in _whole_lines(data).splitlines():
        with contextlib.suppress(msgspec.MsgspecError):
            rows.append(msgspec.json.decode(line))
    return rows
