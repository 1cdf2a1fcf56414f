"""Other people's servers: started with their own command, watched with all their children."""

from __future__ import annotations

from pathlib import Path

import psutil

from benchmarks.servers import Server

_GONE_WITHIN_S = 15.0


class Peer(Server):
    """A server of several processes, maybe. Its callers send `key` as Bearer, and `headers` besides."""

    ready_within_s = 180.0

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        port: int,
        ready_path: str,
        log: Path,
        key: str,
        headers: dict[str, str] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        executable, *arguments = command
        super().__init__(
            arguments, port=port, ready_path=ready_path, log=log, executable=executable, environment=environment
        )
        self.name = name
        self.key = key
        self.headers = headers or {}

    def __exit__(self, *_: object) -> None:
        family = self._processes
        super().__exit__()
        _, left = psutil.wait_procs(family, _GONE_WITHIN_S)
        for process in left:
            process.kill()

    @property
    def _processes(self) -> list[psutil.Process]:
        try:
            (first,) = super()._processes
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []
