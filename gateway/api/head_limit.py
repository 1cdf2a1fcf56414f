"""A limit on the head of a request. uvicorn has none: it collects whatever comes, in quadratic time."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.api.error_response import error_body
from gateway.domain.ids import new_id
from gateway.errors import DarkroomError

MAX_HEAD_BYTES = 65_536


class HeadTooLarge(DarkroomError):
    """431 (RFC 6585, section 5)."""

    code = "head_too_large"
    status = 431
    type = "invalid_request_error"


class LimitedHeadProtocol(HttpToolsProtocol):
    """uvicorn's own protocol, which gives up on a request line and headers that don't end within 64 KiB."""

    _head_bytes = 0
    _in_head = True

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    def _refuse_head(self) -> None:
        error = HeadTooLarge(f"The request line and headers are larger than {MAX_HEAD_BYTES} bytes.")
        body = error_body(error, request_id=new_id("req"), path="")
        head = (
            "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
