"""Limits around uvicorn's protocol, which has none: it waits for a request for ever, and collects whatever comes.

A head has 64 KiB and `server.head_timeout_s`, a body `server.body_timeout_s` and its size; what is not HTTP, or could
be read as two different requests, is refused. All of it in the envelope, and the application hears only that the
client has gone.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.api.connection_guard import ConnectionGuard
from gateway.api.error_response import error_body, error_headers
from gateway.api.plain_protocol import PlainProtocol
from gateway.domain.ids import new_id
from gateway.errors import BodyTooLarge, DarkroomError, InvalidRequest

MAX_HEAD_BYTES = 65_536
_READ_BEHIND = 8
"""Requests that are read while an earlier one is answered."""
LINGER_S = 2.0
"""How long what a refused client still sends is read and thrown away: closed at once, it might never see the answer."""

_IDLE, _HEAD, _BODY, _LINGER = range(4)


class _Nowhere(list[tuple[bytes, bytes]]):
    """Keeps nothing: trailers without end take no memory."""

    def append(self, _header: tuple[bytes, bytes]) -> None: ...


class _Pipeline(list[Any]):
    """Requests behind the one that is answered, in place of a deque: that takes 700 bytes, and is hardly ever used."""

    def appendleft(self, item: Any) -> None:
        self.insert(0, item)


class _Event(asyncio.Event):
    """Those who wait are in a list, for the same reason: a connection has two events, and nobody waits for either."""

    def __init__(self) -> None:
        super().__init__()
        self._waiters = []  # type: ignore[assignment]


class HeadTooLarge(DarkroomError):
    """431 (RFC 6585, section 5)."""

    code = "head_too_large"
    status = 431
    type = "invalid_request_error"


class RequestTimeout(DarkroomError):
    """408 (RFC 9110, section 15.5.9): the request itself took too long to come."""

    code = "request_timeout"
    status = 408
    type = "invalid_request_error"


class GuardedProtocol(PlainProtocol):
    """uvicorn's own protocol within limits. `guard` is set in a subclass of each server."""

    guard: ClassVar[ConnectionGuard]

    _stage = _HEAD
    _since = 0.0
    _bytes = 0
    is_refused = False
    _fault = ""
    _group: str | None = None
    _answering: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.pipeline = _Pipeline()  # type: ignore[assignment]
        self.flow._is_writable_event = _Event()  # noqa: SLF001
        self.flow._is_writable_event.set()  # noqa: SLF001
        self.guard.watch(self.connections, self.loop)
        self._since = self.guard.now
        clients = self.guard.clients
        if clients is not None and self.client is not None and (group := clients.group(self.client[0])) is not None:
            try:
                clients.enter(group)
            except DarkroomError as refusal:
                self.refuse(refusal)
            else:
                self._group = group

    def connection_lost(self, exc: Exception | None) -> None:
        if self._group is not None and self.guard.clients is not None:
            self.guard.clients.leave(self._group)
            self._group = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.is_refused:
            return
        if self._stage == _IDLE:
            self._stage = _HEAD
            self._since = self.guard.now
        self._bytes += len(data)
        super().data_received(data)
        if self._stage == _HEAD and self._bytes > MAX_HEAD_BYTES:
            self.refuse(HeadTooLarge(f"The request line and headers are larger than {MAX_HEAD_BYTES} bytes."))
        elif self._stage == _BODY and self._bytes > self.guard.max_message_bytes:  # trailers, extensions of chunks
            self.refuse(BodyTooLarge("What frames the body is many times larger than a body may be."))

    def on_headers_complete(self) -> None:
        if self.parser.get_method() == b"CONNECT":
            self._fault = "it asks for a tunnel, and this is no proxy"
            raise ValueError(self._fault)  # the parser hands it on as an error of its own
        if self.parser.should_upgrade():
            super().on_headers_complete()
            return
        hosts = [name for name, _ in self.headers].count(b"host")
        if hosts != 1 and (hosts or self.parser.get_http_version() == "1.1"):
            self._fault = f"it has {hosts} Host headers, and one is needed (RFC 9112, section 3.2)"
            raise ValueError(self._fault)
        self._bytes = 0
        self._stage = _BODY
        self._since = self.guard.now
        self.headers = _Nowhere()  # trailers are read, but never come among the headers
        self.begin_request()

    def begin_request(self) -> None:
        """Hand the request whose head is whole to the application, or to its place behind the one before."""
        super().on_headers_complete()
        self.cycle.message_event = _Event()  # before its task has begun
        if not self.pipeline:
            self._answering = self.cycle
        elif len(self.pipeline) < _READ_BEHIND:
            self.flow.resume_reading()  # uvicorn pauses, and so would not hear that the client leaves
        if self.guard.draining:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        if self.plain_head is None:
            self.request_is_over()
        super().on_message_complete()

    def request_is_over(self) -> None:
        self._stage = _IDLE
        self._bytes = 0
        self._since = self.guard.now

    def on_response_complete(self) -> None:
        if self._stage == _BODY and self.cycle.response_complete:  # answered before the body was whole
            self._expect(_LINGER)
        if self.pipeline:
            self._answering = self.pipeline[-1][0]
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (uvicorn's words, for no client of ours)
        self.refuse(InvalidRequest(f"This is not an HTTP request: {self._fault or 'its form is broken'}."))

    def end_after_answer(self) -> None:
        """The answer under way, if it has not begun to leave, says that it is the connection's last."""
        if self.is_answering() and not self.pipeline:
            self.cycle.keep_alive = False

    def check_time(self, now: float) -> None:
        """Refuse what took too long. Time in which we do not read, or answer an earlier request, does not count."""
        if self._stage == _IDLE:
            if self._waits_for_nothing() and now - self._since >= self.timeout_keep_alive:
                self.transport.close()
            return
        waits_for_us = self.flow.read_paused or (self._stage == _HEAD and self.is_answering())
        if waits_for_us and self._stage != _LINGER:
            self._since = now
        elif self._stage == _HEAD and now - self._since >= self.guard.head_timeout_s:
            self.refuse(RequestTimeout("The head of the request was not whole in time."))
        elif self._stage == _BODY and now - self._since >= self.guard.body_timeout_s:
            self.refuse(RequestTimeout("The body of the request was not whole in time."))
        elif self._stage == _LINGER and now - self._since >= LINGER_S:
            if self.transport.is_closing():  # a round ago, and it still does not take what was written
                self.transport.abort()
            self.transport.close()

    def refuse(self, error: DarkroomError) -> None:
        """Answer in place of the application, and end the connection.

        An answer under way to an earlier request, which was whole, comes first and is the last.
        """
        self.is_refused = True
        if self._is_answering_an_earlier_request():
            self._stage = _IDLE
            self.pipeline.clear()
            self.cycle = self._answering  # type: ignore[assignment]
            self.cycle.keep_alive = False
            return
        answered = self._stage == _LINGER
        if self.is_answering():
            answered = self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._expect(_LINGER)
        if answered or self.transport.is_closing():
            self.transport.close()
        else:
            self.transport.write(self._refusal(error))
            self.transport.write_eof()

    def _expect(self, stage: int) -> None:
        self._stage = stage
        self._since = self.guard.now

    def _waits_for_nothing(self) -> bool:
        """Kept alive, and not by a timer of uvicorn's, which sets one after each answer of the application."""
        return self.timeout_keep_alive_task is None and not self.is_answering()

    def is_answering(self) -> bool:
        return self._answering is not None and not self._answering.response_complete

    def _is_answering_an_earlier_request(self) -> bool:
        return self.is_answering() and (self._answering is not self.cycle or not self.cycle.more_body)

    def _refusal(self, error: DarkroomError) -> bytes:
        request_id = new_id("req")
        body = error_body(error, request_id=request_id, path="")
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
            *error_headers(error),
        ]
        lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode()]
        lines += [name + b": " + value for name, value in headers]
        return b"\r\n".join([*lines, b"", body])
