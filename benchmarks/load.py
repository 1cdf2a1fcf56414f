"""One load on one address: wrk, or a client of our own where wrk is not installed or can't do what is asked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.machine import kept_to

PATH = "/v1/images/generations"
BINS_PER_DECADE = 20
HINT = "wrk is not installed (`apt-get install wrk`); the own client is used instead"

_SCRIPT = """\
local requests, turn = {}, 0
init = function()
  local headers = {%(headers)s}
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
    """What one run came to. `bins`, of the own client: calls by latency, in logarithmic steps (`bin_start_us`)."""

    requests: int
    duration_us: int
    p50_us: int
    p99_us: int
    errors: int
    bins: dict[str, int] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        return self.requests / self.duration_us * 1e6


def bin_start_us(number: int) -> float:
    """The shortest latency of a bin, in microseconds."""
    return float(10 ** (number / BINS_PER_DECADE))


def call_headers(key: str, more: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **more}


def has_wrk() -> bool:
    return shutil.which("wrk") is not None


@dataclass(frozen=True)
class Generator:
    """Makes load of the requests in `bodies` (a file, one a line), in turn.

    `warm_start`: begins once every connection has had an answer, which wrk can't. `headers` are sent besides the key.
    `answer_within_s`: wrk counts an answer that takes longer as an error.
    """

    folder: Path
    bodies: Path
    key: str
    cores: set[int] | None = None
    warm_start: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    answer_within_s: int = 2

    def run(self, base_url: str, *, connections: int, seconds: float) -> Load:
        """Raises RuntimeError when any call was not answered by a 200."""
        make = self._wrk if has_wrk() and not self.warm_start else self._own
        arguments = make(base_url, connections, seconds)
        with kept_to(self.cores):
            process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        said, _ = process.communicate(timeout=seconds + 30)
        load = Load(**json.loads(said.strip().splitlines()[-1]))
        if process.returncode or load.errors or not load.requests:
            raise RuntimeError(f"{base_url}: {said}")
        return load

    def _wrk(self, base_url: str, connections: int, seconds: float) -> list[str]:
        script = self.folder / "wrk.lua"
        headers = ", ".join(f'["{name}"] = "{value}"' for name, value in call_headers(self.key, self.headers).items())
        script.write_text(_SCRIPT % {"headers": headers, "bodies": self.bodies, "path": PATH})
        limits = [f"-c{connections}", f"-d{seconds:.0f}s", f"--timeout={self.answer_within_s}s"]
        return ["wrk", "-t1", *limits, "-s", str(script), base_url]

    def _own(self, base_url: str, connections: int, seconds: float) -> list[str]:
        port = str(urlsplit(base_url).port)
        module = [sys.executable, "-m", "benchmarks.own_client"]
        headers = json.dumps(call_headers(self.key, self.headers))
        return [*module, port, str(self.bodies), headers, str(connections), str(seconds)]
