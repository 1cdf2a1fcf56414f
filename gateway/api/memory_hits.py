"""Hits held in memory, as whole messages of HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import structlog

from gateway.api.answer_headers import Header, call_headers, constant_headers, delivery_headers
from gateway.api.generation_answer import note_call
from gateway.errors import DarkroomError
from gateway.resources import Call, Delivery, Head, Resources

_MOST_BYTES = 16_384
_KNOWN_HEADS = 1024
_KNOWN_HEAD_BYTES = 2048


_log = structlog.get_logger(__name__)


class MemoryHits:
    """`heads`: what heads of requests mean, by their bytes up to the blank line; only of such as may be hits.

    `most_bytes`: larger bodies, and those that do not say how large they are, are the application's.
    """

    def __init__(self, resources: Resources, *, cors: bool) -> None:
        """`cors`: calls from web pages are the application's, which adds the headers that browsers want."""
        self.heads: dict[bytes, Head] = {}
        self.most_bytes = min(_MOST_BYTES, resources.settings.server.max_body_bytes)
        self.left = resources.generator.left
        self._resources = resources
        self._cors = cors
        self._common: tuple[Sequence[Header], bytes] = ((), b"")

    def answer(self, call: Call, common: Sequence[Header]) -> bytes | None:
        """The answer to a hit; or None, then the call goes on, with its refusal if there is one already.

        `common` are the server's own headers, the same list until they change.
        """
        if not self._is_ours(call):
            return None
        try:
            if self._resources.admission.try_now(call):
                delivery = self._resources.generator.from_memory(call)
                return None if delivery is None else self._message(call, delivery, common)
        except DarkroomError as refusal:
            call.refusal = refusal
        except Exception:  # noqa: BLE001  (a defect of ours: the application has another way)
            _log.exception("hit_broke", request_id=call.request_id)
        return None

    def may_ask(self, call: Call) -> bool:
        """Whether the call will be a hit once those who share its caller's limits allow it."""
        return (
            self._is_ours(call)
            and not call.admitted
            and self._resources.admission.understand(call)
            and self._resources.generator.is_held(call)
        )

    def ask(self, call: Call, done: Callable[[], None]) -> bool:
        """Ask whether a call that will be a hit may be one; `answer` then can be given, or the application goes on."""
        if not self.may_ask(call):
            return False
        self._resources.admission.ask(call, done)
        return True

    def _is_ours(self, call: Call) -> bool:
        return call.refusal is None and call.head.idempotency_key is None and not (self._cors and call.head.from_page)

    def remember(self, request: bytes, body: bytes, meaning: Head) -> None:
        """Keep what the head of a hit means, if that is all there was before the body. The oldest makes room."""
        size = len(request) - len(body)
        head = request[:size]
        if size > _KNOWN_HEAD_BYTES or not head.endswith(b"\r\n\r\n") or head.find(b"\r\n\r\n") != size - 4:
            return
        if meaning.client_request_id or request[size:] != body:
            return
        if len(self.heads) >= _KNOWN_HEADS:
            del self.heads[next(iter(self.heads))]
        self.heads[head] = meaning

    def _message(self, call: Call, delivery: Delivery, common: Sequence[Header]) -> bytes:
        if self._common[0] is not common:
            self._common = (common, b"HTTP/1.1 200 OK\r\n" + _lines(common))
        held, body = delivery.held, delivery.body
        if held is None or held.body is not body:  # addresses that run out are new in each answer
            said = _lines(call_headers(call) + delivery_headers(call, delivery))
            return b"%b%bcontent-length: %d\r\n\r\n%b" % (self._common[1], said, len(body), body)
        if held.message is None:
            constant = _lines(constant_headers(delivery))
            held.message = b"%bcontent-length: %d\r\n\r\n%b" % (constant, len(body), body)
        said = _lines(call_headers(call))
        return b"%b%bage: %d\r\n%b" % (self._common[1], said, delivery.age_s or 0, held.message)


def _lines(headers: Iterable[Header]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


class TracedHits(MemoryHits):
    """The same with a span for each hit; they pay for it, and hits that are not traced don't."""

    def answer(self, call: Call, common: Sequence[Header]) -> bytes | None:
        message = super().answer(call, common)
        if message is not None:
            with self._resources.tracing.call(call.head.traceparent, ago_us=call.latency_us) as span:
                note_call(span, call)
                span.note(outcome="hit", status=200)
        return message
