"""A gateway of canned answers on a real port: for commands, which must be right about what they send and show."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit


class Asked(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


class Reply(NamedTuple):
    """`body` is JSON, or bytes as they are."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})


Answer = Reply | Callable[[Asked], Reply]


@dataclass
class CannedGateway:
    """`answers` by "METHOD /path"; what was asked is kept in `asked`."""

    url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def reply(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        missing = Reply(404, {"error": {"message": f"no answer for {asked.method} {asked.path}"}})
        answer = self.answers.get(f"{asked.method} {asked.path}", missing)
        return answer if isinstance(answer, Reply) else answer(asked)


@contextmanager
def canned_gateway() -> Iterator[CannedGateway]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    gateway = CannedGateway(f"http://127.0.0.1:{server.server_port}")
    server.gateway = gateway  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def _handle(self) -> None:
        parts = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = dict(parse_qsl(parts.query))
        asked = Asked(self.command, parts.path, query, json.loads(content) if content else None, headers)
        reply = self.server.gateway.reply(asked)  # type: ignore[attr-defined]
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"content-length": str(len(body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815  (the base class's names)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        """Nothing: the tests look at what was asked."""
