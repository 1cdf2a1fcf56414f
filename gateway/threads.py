"""Threads for work that blocks: SQLite, files, pictures.

To hand work to `concurrent.futures` makes a future with a lock and a condition, to which asyncio chains one of its own;
a purchase does it eight times. Here it is a queue there and `call_soon_threadsafe` back (docs/decisions/0015).
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_MOST = min(32, (os.cpu_count() or 1) + 4)


class NoThread(OSError):
    """Not one could be started: the system allows no more of them, or has no memory left."""


class Job(Generic[T]):
    """A piece of work on its way to a thread, and back to the loop that awaits `done`."""

    __slots__ = ("_arguments", "_loop", "_work", "done", "error", "result")

    def __init__(self, work: Callable[..., T], *arguments: Any) -> None:
        self._work = work
        self._arguments = arguments
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[T] = self._loop.create_future()
        self.result: T | None = None
        self.error: BaseException | None = None

    def __call__(self) -> None:
        """In a thread: do it, unless whoever asked for it has gone."""
        if self.done.cancelled():
            return
        try:
            self.perform(*self._arguments)
        except BaseException as exc:  # noqa: BLE001  (whatever it is, it is for who asked to hear)
            self.error = exc
        self.tell()

    def perform(self, *arguments: Any) -> None:
        """Keep what the work returns."""
        self.result = self._work(*arguments)

    def tell(self) -> None:
        """Let the one who asked go on, with the result or the error."""
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if self.done.done():  # cancelled
            return
        if self.error is None:
            self.done.set_result(self.result)  # type: ignore[arg-type]
        elif isinstance(self.error, StopIteration):  # no future takes it
            self.done.set_exception(RuntimeError("the work raised StopIteration"))
        else:
            self.done.set_exception(self.error)


class Threads:
    """Up to `most` threads, each made when all others are at work."""

    def __init__(self, most: int, *, name: str) -> None:
        self._most = most
        self._name = name
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open = 0
        """Handed in, and not done yet."""
        self._closed = False

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """What `work` returns, or raises; NoThread. Cancelled before a thread is free for it, it is never done."""
        job = Job(work, *arguments)
        self.submit(job)
        return await job.done

    def submit(self, job: Callable[[], None]) -> None:
        """Have it done; it must not raise. Raises RuntimeError once closed, and NoThread."""
        with self._lock:
            if self._closed:
                raise RuntimeError(f"the threads {self._name} are closed")
            if len(self._threads) < min(self._open + 1, self._most):
                self._start()
            self._open += 1
            self._queue.put(job)

    def _start(self) -> None:
        """One more. If it can't be had, the others do its work; raises NoThread if there are none."""
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:
            if not self._threads:
                raise NoThread(f"no thread could be started: {exc}") from exc
        else:
            self._threads.append(thread)

    def close(self) -> None:
        """Waits for what was handed in."""
        with self._lock:
            self._closed = True
            for _ in self._threads:
                self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            job()
            del job  # which may hold a picture
            with self._lock:
                self._open -= 1


_shared = Threads(_MOST, name="darkroom")
atexit.register(_shared.close)


async def to_thread(work: Callable[..., T], *arguments: Any) -> T:
    """As `asyncio.to_thread`, but for context variables, in threads that all loops share."""
    return await _shared.run(work, *arguments)
