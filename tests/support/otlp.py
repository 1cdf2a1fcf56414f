"""A collector of traces in this event loop: it takes OTLP over HTTP and keeps every span."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.raw_server import raw_server, read_request

_TAKEN = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Collector:
    """`raw`: all that was sent, as it was sent."""

    endpoint: str = ""
    spans: list[Span] = field(default_factory=list)
    raw: bytes = b""

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, _, body = (await read_request(reader)).partition(b"\r\n\r\n")
            assert head.startswith(b"POST /v1/traces ")
            body = gzip.decompress(body) if b"content-encoding: gzip" in head.lower() else body
            self.raw += body
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    self.spans += scope.spans
            writer.write(_TAKEN)
            await writer.drain()


def told(span: Span) -> dict[str, str | int]:
    """Its attributes."""
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    async with raw_server(collector.serve) as port:
        collector.endpoint = f"http://127.0.0.1:{port}"
        yield collector
