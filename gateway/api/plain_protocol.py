"""uvicorn's protocol, for HTTP/1 and nothing else.

An offer to speak another protocol (`Upgrade: h2c`, which Java's client makes with its first call) is not taken up (RFC
9110, section 7.8). httptools then reads no body, and would take it for the next request: so the head is read again
without the offer.
"""

from __future__ import annotations

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_OFFERS = frozenset({b"upgrade", b"http2-settings"})


class PlainProtocol(HttpToolsProtocol):
    plain_head: bytes | None = None
    """The head that was just read, without the other protocol that it offers to speak."""

    def data_received(self, data: bytes) -> None:
        """As uvicorn does, but for such offers."""
        self._unset_keepalive_if_required()
        rest: memoryview | None = memoryview(data)
        try:
            while rest is not None:
                rest = self._feed(rest)
        except httptools.HttpParserError:
            self.send_400_response("")

    def _feed(self, data: memoryview) -> memoryview | None:
        """Returns what is to be fed yet."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            head, self.plain_head = self.plain_head or b"", None
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
            self.parser.feed_data(head)
            return data[stopped.args[0] :]
        return None

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            self.plain_head = self._head_without_offer()
        else:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self.plain_head is None:  # else httptools says so of a request whose body it leaves
            super().on_message_complete()

    def _head_without_offer(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                kept = [token for token in value.split(b",") if token.strip().lower() not in _OFFERS]
                lines += [b"connection: " + b",".join(kept)] if kept else []
            elif name not in _OFFERS:
                lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b"", b""])
