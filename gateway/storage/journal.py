"""The journal: usage rows on disk before their answers leave, in SQL soon after.

One `write` a row to a file opened for appending: it survives kill -9 (the page cache belongs to the kernel), not a
loss of power. Rows reach SQL in batches; a full file gives way to the next, and is deleted once every row of it is
there. After a crash whatever files are left are read again from their start: rows carry their id, so a second time is
no harm.

SQL gone: files grow until it is back. Disk full: `append` raises StorageFailed, and the answer does not leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from gateway.domain.usage_row import UsageRow
from gateway.errors import DarkroomError, StorageFailed, reason_of

_BATCH_BYTES = 256 * 1024
_SEGMENT_BYTES = 4 * 1024 * 1024
_PROBE_BYTES = 4096
_PAUSE_S = 0.2
_PAUSE_AFTER_FAILURE_S = 1.0

_encode = msgspec.json.Encoder().encode
_decode_lines = msgspec.json.Decoder(UsageRow).decode_lines
_log = structlog.get_logger(__name__)

Deliver = Callable[[Sequence[UsageRow]], Awaitable[None]]


class LagGauge(Protocol):
    """What shows how many rows wait for SQL."""

    def set_function(self, f: Callable[[], float]) -> None: ...


@dataclass(eq=False, slots=True)
class _Segment:
    """A file of the journal: how many bytes of it are whole rows, and how many of those are delivered."""

    path: Path
    fd: int
    written: int = 0
    delivered: int = 0

    def remove(self) -> None:
        os.close(self.fd)
        self.path.unlink(missing_ok=True)


class Journal:
    """Appends on the event loop, delivers in a task. One process a folder."""

    def __init__(self, folder: Path, deliver: Deliver, *, lag: LagGauge) -> None:
        self._folder = folder
        self._deliver = deliver
        lag.set_function(lambda: self._waiting)
        folder.mkdir(parents=True, exist_ok=True)
        self._left_over = sorted(folder.glob("*.jsonl"))
        self._number = max((int(path.stem) for path in folder.glob("[0-9]*.*")), default=0)
        self._segments: deque[_Segment] = deque()
        self._waiting = 0
        self._delivering = asyncio.Lock()
        self._open_segment()

    def append(self, row: UsageRow) -> None:
        """Put a row on disk. Raises StorageFailed, and then nothing of the row is there."""
        line = _encode(row) + b"\n"
        try:
            self._write(line)
        except OSError as exc:
            raise StorageFailed(
                f"The gateway can't record this call ({exc.strerror or exc}), so it was not served.",
                retry_after_s=5,
                charged="no",
            ) from exc
        self._waiting += 1

    def check(self) -> None:
        """Raises StorageFailed unless a file can be written beside the rows now."""
        probe = self._folder / ".probe"
        try:
            probe.write_bytes(b"\0" * _PROBE_BYTES)
        except OSError as exc:
            raise StorageFailed(
                f"The gateway can't record calls right now ({exc.strerror or exc}).", retry_after_s=5
            ) from exc
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()

    def _write(self, line: bytes) -> None:
        if not self._segments:
            raise OSError("the journal is closed")
        segment = self._segments[-1]
        count = os.write(segment.fd, line)
        if count != len(line):
            os.ftruncate(segment.fd, segment.written)
            raise OSError(f"{count} of {len(line)} bytes written")
        segment.written += len(line)
        if segment.written >= _SEGMENT_BYTES:
            with contextlib.suppress(OSError):  # then this one grows on
                self._open_segment()

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
            except Exception as exc:  # noqa: BLE001  (whatever SQL says, later rows are owed their turn)
                _log.warning("journal_waits", rows=self._waiting, reason=reason_of(exc), exc_info=_unexpected(exc))
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)

    async def flush(self) -> None:
        """Deliver every row appended before this call; those that come meanwhile are for the next."""
        async with self._delivering:
            if not self._segments:
                return
            last = self._segments[-1]
            target = last.written
            while (first := self._segments[0]) is not last:
                await self._deliver_up_to(first, first.written)
                self._segments.popleft().remove()
            await self._deliver_up_to(last, target)

    async def _deliver_up_to(self, segment: _Segment, target: int) -> None:
        while segment.delivered < target:
            data = _read_lines(segment, target)
            rows = _rows(data)
            await self._deliver(rows)
            segment.delivered += len(data)
            self._waiting -= len(rows)

    async def close(self) -> None:
        """Deliver what can be delivered; the rest waits in its file for the next start."""
        try:
            await self.flush()
        except Exception as exc:  # noqa: BLE001  (whatever SQL says, what is open is closed)
            _log.warning("journal_left_over", rows=self._waiting, reason=reason_of(exc), exc_info=_unexpected(exc))
        for segment in self._segments:
            if segment.delivered == segment.written:
                segment.remove()
            else:
                os.close(segment.fd)
        self._segments.clear()

    def _open_segment(self) -> None:
        path = self._folder / f"{self._number + 1:08}.jsonl"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o600)
        self._number += 1
        self._segments.append(_Segment(path, fd))


def _unexpected(exc: Exception) -> Exception | None:
    """What deserves its traceback in the log."""
    return None if isinstance(exc, DarkroomError | OSError) else exc


def _read_lines(segment: _Segment, target: int) -> bytes:
    """The next whole lines up to `target`, a batch of them, at least one."""
    left = target - segment.delivered
    size = _BATCH_BYTES
    while True:
        data = _whole_lines(os.pread(segment.fd, min(size, left), segment.delivered))
        if data:
            return data
        if size >= left:
            raise OSError(f"{segment.path} lost its end")
        size *= 2


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def _rows(data: bytes) -> list[UsageRow]:
    """The rows of whole, readable lines. A torn last line was never acknowledged: its answer had not left."""
    lines = _whole_lines(data)
    try:
        return _decode_lines(lines)
    except msgspec.MsgspecError:
        return [row for line in lines.splitlines() for row in _readable(line)]


def _readable(line: bytes) -> list[UsageRow]:
    with contextlib.suppress(msgspec.MsgspecError):
        return _decode_lines(line)
    return []
