"""One load on one address: wrk where it is installed, else a client of our own, slower but good for ratios."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

PATH = "/v1/images/generations"
HINT = "wrk is not installed (`apt-get install wrk`); the own client is slower and takes more of the machine"

_SCRIPT = """\
local requests, turn = {}, 0
init = function()
  local headers = {["Authorization"] = "Bearer %(key)s", ["Content-Type"] = "application/json"}
  for line in io.lines("%(bodies)s") do
    requests[#requests + 1] = wrk.format("POST", "%(path)s", headers, line)
  end
end
request = function() turn = turn %% #requests + 1 return requests[turn] end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('\\n{"requests": %%d, "duration_us": %%d, "p50_us": %%d, "p99_us": %%d, "errors": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What one run came to."""

    requests: int
    duration_us: int
    p50_us: int
    p99_us: int
    errors: int

    @property
    def per_s(self) -> float:
        return self.requests / self.duration_us * 1e6


def has_wrk() -> bool:
    return shutil.which("wrk") is not None


@dataclass(frozen=True)
class Generator:
    """Makes load of the requests in `bodies` (a file, one a line), in turn."""

    folder: Path
    bodies: Path
    key: str
    cores: set[int] | None = None

    def run(self, base_url: str, *, connections: int, seconds: float) -> Load:
        """Raises RuntimeError when any call was not answered by a 200."""
        arguments = (
            self._wrk(base_url, connections, seconds) if has_wrk() else self._own(base_url, connections, seconds)
        )
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        if self.cores:
            os.sched_setaffinity(process.pid, self.cores)
        said, _ = process.communicate(timeout=seconds + 30)
        load = Load(**json.loads(said.strip().splitlines()[-1]))
        if process.returncode or load.errors or not load.requests:
            raise RuntimeError(f"{base_url}: {said}")
        return load

    def _wrk(self, base_url: str, connections: int, seconds: float) -> list[str]:
        script = self.folder / "wrk.lua"
        script.write_text(_SCRIPT % {"key": self.key, "bodies": self.bodies, "path": PATH})
        return ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", str(script), base_url]

    def _own(self, base_url: str, connections: int, seconds: float) -> list[str]:
        port = str(urlsplit(base_url).port)
        module = [sys.executable, "-m", "benchmarks.own_client"]
        return [*module, port, str(self.bodies), self.key, str(connections), str(seconds)]
