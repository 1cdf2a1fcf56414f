"""The thin path: a hit held in memory is answered by the connection itself, before there is an ASGI application.

A task, a scope, events and messages between server and application cost several times what a hit costs. So the head of
a call is put by until its body is whole. Then what memory allows is done with the same functions as the route
(`Admission.try_now`, `ImageGenerator.from_memory`); a hit leaves in one write, and all else, refusals too, goes on to
the application with the call as far as it has come.

Clients send the same head with call after call. One that the parser has understood before is not parsed again: equal
bytes mean the same, and a request that came whole in one piece needs no parser to find its end.

Where replicas share limits, such a hit waits for its admission: the connection reads no further meanwhile, and needs no
task to wait.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import ClassVar

from gateway.api.answer_headers import Header
from gateway.api.call_reading import STATE, begin_call, read_head
from gateway.api.memory_hits import MemoryHits
from gateway.api.one_write import OneWriteProtocol
from gateway.resources import Call

_PATHS = frozenset({b"/v1/images/generations", b"/v1/images/generations/"})
_START = b"POST /v1/images/generations"
_END = b"\r\n\r\n"


class HitProtocol(OneWriteProtocol):
    """`hits` is set in a subclass of each server; None: the application answers everything."""

    hits: ClassVar[MemoryHits | None]

    _between = True
    """No message is being read: the next byte is the first of one."""
    _whole = b""
    """All that came at once, if it began with the first byte of a message."""
    _early: bytes | None = None
    """The body so far of a call whose head was put by."""
    _begun: Call | None = None
    """A call by a known head that is no hit after all, while the parser reads it for the application."""
    _waiting: tuple[Call, ...] = ()
    """Calls that were begun here, and are not answered yet."""
    _behind: bytes | None = None
    """What came behind a hit that waits for its admission; None: there is no such hit."""

    def data_received(self, data: bytes) -> None:
        if self._behind is not None:
            self._behind += data
            self.flow.pause_reading()
            return
        if self._between and self.hits is not None and data.startswith(_START):
            if self._may_answer():
                end = data.find(_END) + len(_END)
                head = self.hits.heads.get(data[:end])
                if head is not None and head.content_length == len(data) - end:
                    self._unset_keepalive_if_required()
                    self._begun = call = begin_call(head, data[end:])
                    if self._answer(self.hits, call):
                        self._begun = None
                        self.request_is_over()
                        return
                    self._behind = b""
                    if self.hits.ask(call, partial(self._admitted, call, data)):
                        self._begun = None
                        return
                    self._behind = None
            self._whole = data
        super().data_received(data)
        self._whole = b""
        self._begun = None

    def _admitted(self, call: Call, data: bytes) -> None:
        """What was asked about `call`, which came as `data`, is answered; or not, and then the application asks."""
        assert self.hits is not None
        behind, self._behind = self._behind, None
        if self.transport.is_closing():
            self.hits.answer(call, self.server_state.default_headers)  # it was admitted: it has its row, though unheard
            return
        self.request_is_over()
        if not (self._may_answer() and self._answer(self.hits, call)):
            self._begun = call
            super().data_received(data)
            self._begun = None
        if behind:
            self.flow.resume_reading()
            self.data_received(behind)

    def check_time(self, now: float) -> None:
        """Time in which a hit waits for its admission is not the client's."""
        if self._behind is None:
            super().check_time(now)
        else:
            self._since = now

    def shutdown(self) -> None:
        """A hit that waits for its admission is answered yet, and ends its connection."""
        if self._behind is None:
            super().shutdown()

    def on_message_begin(self) -> None:
        self._between = False
        super().on_message_begin()

    def begin_request(self) -> None:
        if self._may_be_hit():
            self._early = b""
        else:
            super().begin_request()

    def on_body(self, body: bytes) -> None:
        if self._early is None:
            super().on_body(body)
        else:
            self._early += body

    def on_message_complete(self) -> None:
        self._between = True
        body, self._early = self._early, None
        if body is None:
            super().on_message_complete()
            return
        hits = self.hits
        assert hits is not None
        call, self._begun = self._begun, None
        if call is None:
            call = begin_call(read_head(self.scope["headers"]), body)
            if self._may_answer() and self.parser.should_keep_alive():
                if self._answer(hits, call):
                    hits.remember(self._whole, body, call.head)
                    self.request_is_over()
                    return
                if hits.may_ask(call):
                    hits.remember(self._whole, body, call.head)
        self.scope[STATE] = call  # type: ignore[literal-required]
        self._waiting += (call,)
        super().begin_request()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._waiting and self._answering is not None:
            answered = self._answering.scope.get(STATE)
            self._waiting = tuple(call for call in self._waiting if call is not answered)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.hits is not None:
            for call in self._waiting:
                self.hits.left(call)
        self._waiting = ()
        super().connection_lost(exc)

    def _may_be_hit(self) -> bool:
        return (
            self.hits is not None
            and self.url in _PATHS
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"  # an older client would have to be told what of the connection
            and not self.expect_100_continue
            and not self.parser.should_upgrade()
            and not self.is_answering()
            and _declared(self.scope["headers"]) <= self.hits.most_bytes
        )

    def _may_answer(self) -> bool:
        """Nothing else is on its way out, or has to be the last that is."""
        return not (self.is_answering() or self.guard.draining or self.flow.write_paused or self.is_refused)

    def _answer(self, hits: MemoryHits, call: Call) -> bool:
        """Whether the call was a hit, and is answered."""
        message = hits.answer(call, self.server_state.default_headers)
        if message is None:
            return False
        self.transport.write(message)
        self.server_state.total_requests += 1
        return True


def _declared(headers: Iterable[Header]) -> float:
    """How large the body is; without a word about it, it has no end."""
    return next((int(value) for name, value in headers if name == b"content-length"), math.inf)
