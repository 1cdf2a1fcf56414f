"""The processes that are measured: started, watched through /proc, ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal, Self

import httpx
import psutil

from benchmarks.lean_provider import State
from benchmarks.machine import kept_to
from tests.support.ports import free_port

ADMIN_KEY = "admin-key-of-the-benchmarks"
PROVIDER_KEY = "provider-secret"
SECRET = "s" * 32
_IDLE_LOOK_S = 0.5


class Server:
    """A process that listens on a port. A context manager: ready inside, ended after."""

    ready_within_s = 60.0

    def __init__(
        self,
        arguments: list[str],
        *,
        port: int,
        ready_path: str,
        log: Path,
        executable: str = sys.executable,
        environment: dict[str, str] | None = None,
    ) -> None:
        """`environment`: besides this process's own."""
        self.base_url = f"http://127.0.0.1:{port}"
        self.ready_after_s = 0.0
        self._command = [executable, *arguments]
        self._environment = environment or {}
        self._ready_path = ready_path
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._cores: set[int] | None = None

    def on(self, cores: set[int] | None) -> Self:
        """Keep the process and its threads to these cores."""
        self._cores = cores
        return self

    def __enter__(self) -> Self:
        started = time.monotonic()
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        with self._log.open("ab") as log, kept_to(self._cores):
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=inherited | self._environment,
            )
        with httpx.Client(base_url=self.base_url) as client:
            while not _answers(client, self._ready_path):
                if self._process.poll() is not None or time.monotonic() - started > self.ready_within_s:
                    self.__exit__()
                    raise RuntimeError(f"{self._command} did not start:\n{self._log.read_text()}")
                time.sleep(0.005)
        self.ready_after_s = time.monotonic() - started
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def cpu_s(self) -> float:
        """User and system time of every thread so far (`utime` and `stime` of /proc/PID/stat)."""
        times = [process.cpu_times() for process in self._processes]
        return float(sum(each.user + each.system for each in times))

    @property
    def memory_bytes(self) -> int:
        return sum(int(process.memory_info().rss) for process in self._processes)

    def settled(self) -> Self:
        """Returns once the process has been idle for a moment: all that it was sent has been taken in."""
        before_s = self.cpu_s
        while True:
            time.sleep(_IDLE_LOOK_S)
            now_s = self.cpu_s
            if now_s - before_s < _IDLE_LOOK_S / 10:
                return self
            before_s = now_s

    @property
    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        return [psutil.Process(self._process.pid)]


def bare_server(answer: Path, log: Path) -> Server:
    port = free_port()
    return Server(["-m", "benchmarks.bare_app", str(port), str(answer)], port=port, ready_path="/", log=log)


class ProviderServer(Server):
    """The lean provider: `delay` in seconds, or "held"."""

    def __init__(self, log: Path, delay: float | Literal["held"] = 0) -> None:
        port = free_port()
        arguments = ["-m", "benchmarks.lean_provider", str(port), str(delay)]
        super().__init__(arguments, port=port, ready_path="/_state", log=log)

    def state(self) -> State:
        return State(**httpx.get(f"{self.base_url}/_state").json())

    def release(self) -> None:
        """Have it send the answers that it holds."""
        httpx.get(f"{self.base_url}/_release", timeout=60)


class Gateway(Server):
    """`darkroom serve` with everything on, as shipped, and what is left to its operator: a key and limits."""

    def __init__(self, folder: Path, provider_url: str, *, max_concurrency: int = 64, engines: str = "") -> None:
        """`max_concurrency`: calls at once with the provider's key. `engines`: settings of what replicas share."""
        port = free_port()
        folder.mkdir(exist_ok=True)
        config = folder / "config.yaml"
        config.write_text(
            f"server: {{port: {port}}}\n"
            f"data_dir: {folder / 'data'}\n"
            f"security: {{admin_key: {ADMIN_KEY}, secrets: [{SECRET}]}}\n{engines}"
            "providers:\n"
            f"  - {{kind: aimlapi, base_url: '{provider_url}', image_hosts: ['{provider_url.removeprefix('http://')}'],\n"
            f"     api_keys: [{{value: {PROVIDER_KEY}, max_concurrency: {max_concurrency}}}]}}\n"
        )
        self.config = config
        arguments = ["-m", "gateway", "--config", str(config), "serve"]
        super().__init__(arguments, port=port, ready_path="/readyz", log=folder / "log")

    def new_key(self) -> str:
        """A key of a user with two rolling limits of requests (GCRA), far from used up."""
        user = self.admin("POST", "/users", {"name": "Benchmark"})
        limits = [("minute", 10**8), ("hour", 10**9)]
        wanted = [{"metric": "requests", "window": window, "amount": str(amount)} for window, amount in limits]
        self.admin("PUT", f"/users/{user['id']}/limits", wanted)
        return str(self.admin("POST", "/keys", {"user_id": user["id"]})["key"])

    def admin(self, method: str, path: str, json: object = None) -> dict[str, object]:
        url, headers = f"{self.base_url}/admin/v1{path}", {"Authorization": f"Bearer {ADMIN_KEY}"}
        response = httpx.request(method, url, json=json, headers=headers, timeout=60)
        if not response.is_success:
            raise RuntimeError(f"{method} {path}: {response.status_code} {response.text}")
        found: dict[str, object] = response.json()
        return found

    def journal_lag_rows(self) -> int:
        """Usage rows that wait for SQL."""
        return int(self.metric("darkroom_journal_lag_rows"))

    def metric(self, name: str, label: str = "") -> float:
        """The sum of a metric's lines with this label (`name="value"`)."""
        lines = httpx.get(f"{self.base_url}/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name) and label in line)


def _answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).is_success
    except httpx.TransportError:
        return False
