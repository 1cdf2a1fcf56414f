"""Other people's servers: started with their own command, watched with all their children, ended."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import httpx
import psutil

READY_WITHIN_S = 180.0
_GONE_WITHIN_S = 15.0


class Watched(Protocol):
    """What a measurement needs of a server; `benchmarks.servers.Server` has it too."""

    base_url: str

    @property
    def cpu_s(self) -> float: ...

    @property
    def memory_bytes(self) -> int: ...


@dataclass
class Peer:
    """A server of several processes, maybe. A context manager: ready inside, ended after.

    `key` is what its callers send as Bearer, `headers` what they send besides.
    """

    name: str
    command: list[str]
    port: int
    ready_path: str
    log: Path
    key: str
    headers: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    cores: set[int] | None = None

    def __post_init__(self) -> None:
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        with self.log.open("ab") as log, _on(self.cores):
            self._process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=kept | self.environment
            )
        started = time.monotonic()
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() - started > READY_WITHIN_S:
                self.__exit__()
                raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        family = self._family()
        self._process.terminate()
        _, left = psutil.wait_procs(family, _GONE_WITHIN_S)
        for process in left:
            process.kill()
        self._process.wait()

    @property
    def said(self) -> dict[str, str]:
        """The headers of a call."""
        return {"Authorization": f"Bearer {self.key}", **self.headers}

    @property
    def cpu_s(self) -> float:
        """User and system time of every process of it so far."""
        times = [process.cpu_times() for process in self._family()]
        return float(sum(each.user + each.system for each in times))

    @property
    def memory_bytes(self) -> int:
        return int(sum(process.memory_info().rss for process in self._family()))

    def _family(self) -> list[psutil.Process]:
        assert self._process is not None
        try:
            first = psutil.Process(self._process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _answers(self) -> bool:
        try:
            return httpx.get(self.base_url + self.ready_path, timeout=5).is_success
        except httpx.TransportError:
            return False


@contextmanager
def _on(cores: set[int] | None) -> Iterator[None]:
    """What is started inside inherits these cores, and so do its children."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
