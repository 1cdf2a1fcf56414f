"""The work that every gateway is given, and the load that makes it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.load import PATH, Generator
from benchmarks.servers import MODEL, Server
from tests.support.ports import free_port

__all__ = ["BENCH", "MODEL", "PATH", "PROVIDER_KEY", "Patient", "Provider", "picture", "post", "write_bodies"]

BENCH = Path(__file__).parents[2] / ".bench"
PROVIDER_KEY = "provider-secret"
_ANSWER_WITHIN_S = 30
_TO_THE_HEADERS = '["Content-Type"] = "application/json"'


@dataclass(frozen=True)
class Patient(Generator):
    """A load that sends `headers` too and waits for slow answers: wrk counts one after 2 s as an error by itself."""

    headers: dict[str, str] = field(default_factory=dict)

    def _wrk(self, base_url: str, connections: int, seconds: float) -> list[str]:
        *command, url = super()._wrk(base_url, connections, seconds)
        script = self.folder / "wrk.lua"
        added = "".join(f', ["{name}"] = "{value}"' for name, value in self.headers.items())
        script.write_text(script.read_text().replace(_TO_THE_HEADERS, _TO_THE_HEADERS + added))
        return [*command, "--timeout", f"{_ANSWER_WITHIN_S}s", url]


def picture(number: int, *, seed: int | None = None) -> dict[str, object]:
    """A call for a picture; without a seed none that the gateway caches."""
    body: dict[str, object] = {"model": MODEL, "prompt": f"A lighthouse at dawn, number {number}"}
    if seed is not None:
        body["seed"] = seed
    body["image_size"] = {"width": 512, "height": 512}
    return body


def write_bodies(file: Path, bodies: list[dict[str, object]]) -> Path:
    file.write_text("\n".join(map(json.dumps, bodies)), encoding="utf-8")
    return file


def post(base_url: str, key: str, bodies: list[dict[str, object]]) -> None:
    """Ask for each in turn, with the bytes that the load sends."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    with httpx.Client(headers=headers, timeout=60) as client:
        for body in bodies:
            client.post(base_url + PATH, content=json.dumps(body)).raise_for_status()


class Provider(Server):
    """The demo provider, which keeps a bill of what it was asked for."""

    def __init__(self, log: Path) -> None:
        port = free_port()
        arguments = ["-m", "gateway.demo.provider", "--port", str(port)]
        super().__init__(arguments, port=port, ready_path="/_bill", log=log)

    def start_over(self, *, delay_s: float = 0) -> None:
        """With an empty bill, and this long before each answer."""
        httpx.post(f"{self.base_url}/_control", json={"reset": True, "delay_s": delay_s}, timeout=60).raise_for_status()

    def calls(self) -> int:
        """Since it started over, charged or not."""
        return int(self._books()["calls"])

    def charged(self) -> int:
        return len(self._books()["bill"])

    def _books(self) -> dict[str, Any]:
        books: dict[str, Any] = httpx.get(f"{self.base_url}/_bill", timeout=60).json()
        return books
