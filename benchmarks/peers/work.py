"""The provider that every gateway is put in front of, and those that call them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from benchmarks.crowd import Crowd
from benchmarks.load import Generator
from benchmarks.machine import cores
from benchmarks.peers.peer import Peer
from benchmarks.servers import Gateway, Server
from tests.support.ports import free_port

BENCH = Path(__file__).parents[2] / ".bench"
ROUND_S = 4
_ANSWER_WITHIN_S = 30
_ALL_WITHIN_S = 90


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


@dataclass(frozen=True)
class Contender:
    """A server that runs, and what its callers send: `key` as Bearer, and `headers` besides."""

    name: str
    server: Server
    key: str
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def ours(cls, gateway: Gateway, key: str = "") -> Self:
        return cls("Darkroom", gateway, key or gateway.new_key())

    @classmethod
    def theirs(cls, peer: Peer) -> Self:
        return cls(peer.name, peer, peer.key, peer.headers)

    def load(self, folder: Path, file: Path) -> Generator:
        """Of the bodies in `file`."""
        return Generator(folder, file, self.key, cores()[1], headers=self.headers, answer_within_s=_ANSWER_WITHIN_S)

    def crowd(self, folder: Path, wanted: list[dict[str, object]]) -> Crowd:
        """All at one moment, each on a connection of its own."""
        return Crowd(
            self.server.base_url,
            wanted,
            self.key,
            folder,
            headers=self.headers,
            within_s=_ALL_WITHIN_S,
            cores=cores()[1],
        )
