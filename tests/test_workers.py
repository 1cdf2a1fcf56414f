"""The process that watches over workers: it leaves when it is told to, whatever it is about to do."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from pathlib import Path

import pytest

from gateway.config import Settings, load_settings
from gateway.workers import Listeners, Workers
from tests.support.ports import free_port


class ToldWhileStarting(Workers):
    """Hears the signal at the moment when its worker is there, and before it knows it."""

    async def _start(self, worker: int, listeners: Listeners, watcher: socket.socket) -> asyncio.subprocess.Process:
        process = await super()._start(worker, listeners, watcher)
        self._leave(signal.SIGTERM)
        return process


class WithoutMemoryForAWhile(Workers):
    """Its second worker and its third can't be started."""

    started = 0

    async def _start(self, worker: int, listeners: Listeners, watcher: socket.socket) -> asyncio.subprocess.Process:
        self.started += 1
        if self.started in {2, 3}:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        process = await super()._start(worker, listeners, watcher)
        if self.started == 4:
            self._leave(signal.SIGTERM)
        return process


def settings_in(folder: Path) -> tuple[Settings, Path]:
    config = folder / "config.yaml"
    config.write_text(f"server: {{port: {free_port()}}}\ndata_dir: {folder / 'data'}\n")
    return load_settings(config), config


async def test_a_worker_that_can_not_be_replaced_now_is_replaced_later(tmp_path: Path):
    workers = WithoutMemoryForAWhile(*settings_in(tmp_path))

    def kill_the_first() -> None:
        workers._processes[1].kill()

    assert await asyncio.wait_for(workers.run(kill_the_first), 60) == 0
    assert workers.started == 4


async def test_a_signal_that_comes_while_a_worker_is_started_ends_that_worker_too(tmp_path: Path):
    workers = ToldWhileStarting(*settings_in(tmp_path))
    assert await asyncio.wait_for(workers.run(lambda: pytest.fail("nothing is served")), 30) == 0
