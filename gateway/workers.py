"""`serve --workers N`: one process that listens and watches, and N that answer.

The listening sockets are made once and shared, so a worker that dies takes no connection but its own with it, and is
replaced. At the first signal every worker drains, and this process ends when the last one has.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import structlog

from gateway.config import Settings
from gateway.listening import listen_for_callers, listen_for_management
from gateway.starting import failures_explained
from gateway.storage.data_dir import locked, make_data_dir, worker_dir
from gateway.telemetry.worker_metrics import FILE

_PAUSE_S = 1.0
_log = structlog.get_logger(__name__)


class Listeners(NamedTuple):
    """The sockets that all workers answer; `management` where it has a port of its own."""

    callers: socket.socket
    management: socket.socket | None


class Workers:
    """Starts them, and starts anew those that end unasked."""

    def __init__(self, settings: Settings, config: Path | None) -> None:
        self._settings = settings
        self._config = config
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._ready = asyncio.Semaphore(0)
        self._leaving = asyncio.Event()
        self._failed = False

    async def run(self, on_start: Callable[[], None]) -> int:
        """Until a signal. Returns the exit code: 0, or 1 when a worker could not even start.

        Raises ConfigurationError when the address can't be had, or another process has the data folder.
        """
        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            listeners = self._open(stack)
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._leave, number)
            count = self._settings.server.workers
            kept = [asyncio.create_task(self._keep(worker, listeners)) for worker in range(1, count + 1)]
            greeting = asyncio.create_task(self._greet(count, on_start))
            await asyncio.gather(*kept)
            greeting.cancel()
        return 1 if self._failed else 0

    def _open(self, stack: ExitStack) -> Listeners:
        with failures_explained(self._settings):
            make_data_dir(self._settings.data_dir)
            stack.enter_context(locked(self._settings.data_dir))
            callers = stack.enter_context(listen_for_callers(self._settings.server))
            management = listen_for_management(self._settings.management)
            return Listeners(callers, management if management is None else stack.enter_context(management))

    async def _greet(self, count: int, on_start: Callable[[], None]) -> None:
        for _ in range(count):
            await self._ready.acquire()
        on_start()

    def _leave(self, number: int) -> None:
        """Drain; the second signal is theirs to understand too."""
        self._leaving.set()
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep(self, worker: int, listeners: Listeners) -> None:
        was_ready = False
        while not self._leaving.is_set():
            try:
                is_ready, code = await self._live(worker, listeners)
            except OSError as exc:  # no memory for another process: one may have died for want of it
                is_ready, code = False, None
                _log.error("worker_not_started", worker=worker, reason=str(exc))
            if self._leaving.is_set():
                return
            was_ready = was_ready or is_ready
            if not was_ready:  # it has said why; to start it again would say no more
                self._failed = True
                self._leave(signal.SIGTERM)
                return
            _log.error("worker_ended", worker=worker, exit_code=code)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), _PAUSE_S)

    async def _live(self, worker: int, listeners: Listeners) -> tuple[bool, int | None]:
        """One life of a worker: whether it ever was ready, and its exit code."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = await self._start(worker, listeners, theirs)
            self._processes[worker] = process
            if self._leaving.is_set():  # it was being started when the signal came, which has passed it by
                process.terminate()
            ours.setblocking(False)
            is_ready = bool(await asyncio.get_running_loop().sock_recv(ours, 1))
            if is_ready:
                self._ready.release()
            code = await process.wait()
        del self._processes[worker]
        (worker_dir(self._settings.data_dir, worker) / FILE).unlink(missing_ok=True)
        return is_ready, code

    async def _start(self, worker: int, listeners: Listeners, watcher: socket.socket) -> asyncio.subprocess.Process:
        """In a session of its own: a terminal's Ctrl-C is for this process, which passes it on."""
        config = [] if self._config is None else ["--config", str(self._config)]
        passed = {"--listener": listeners.callers, "--watcher": watcher}
        if listeners.management is not None:
            passed["--management-listener"] = listeners.management
        chosen = [text for option, each in passed.items() for text in (option, str(each.fileno()))]
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", *config, "serve", "--worker", str(worker), *chosen),
            pass_fds=[each.fileno() for each in passed.values()],
            start_new_session=True,
        )
