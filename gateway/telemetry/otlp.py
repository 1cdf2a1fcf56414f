"""Spans by OpenTelemetry, sent over OTLP/HTTP in batches by a thread of their own.

Needs the extra `otel`. The collector gone: spans are dropped, and nothing waits for it. OTEL_EXPORTER_OTLP_HEADERS,
OTEL_RESOURCE_ATTRIBUTES and the SDK's other variables are understood.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway import __version__
from gateway.errors import DarkroomError
from gateway.telemetry.tracing import CALL, ORDER, Attribute

_EXPORT_TIMEOUT_S = 5.0
_LAST_SPANS_MS = 3000


class OtlpTracing:
    """`endpoint`: the collector's, without the path. `sample_ratio`: of traces that no caller has decided about."""

    is_on = True

    def __init__(self, endpoint: str, *, sample_ratio: float) -> None:
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "darkroom", "service.version": __version__}),
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=_EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("darkroom", __version__)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def call(self, traceparent: str | None, *, ago_us: int = 0) -> Iterator[OtlpSpan]:
        carrier = {} if traceparent is None else {"traceparent": traceparent}
        parent = self._propagator.extract(carrier, context=Context())
        start_ns = time.time_ns() - ago_us * 1000
        with self._spanning(CALL, SpanKind.SERVER, parent, start_ns=start_ns) as span:
            yield span

    @contextmanager
    def span(self, name: str, **attributes: Attribute) -> Iterator[OtlpSpan]:
        kind = SpanKind.CLIENT if name == ORDER else SpanKind.INTERNAL
        with self._spanning(name, kind, None) as span:
            span.note(**attributes)
            yield span

    @contextmanager
    def _spanning(
        self, name: str, kind: SpanKind, context: Context | None, *, start_ns: int | None = None
    ) -> Iterator[OtlpSpan]:
        with self._tracer.start_as_current_span(
            name,
            context=context,
            kind=kind,
            start_time=start_ns,
            record_exception=False,  # a message may quote a prompt
            set_status_on_exception=False,
        ) as span:
            try:
                yield OtlpSpan(span)
            except BaseException as exc:
                span.set_status(StatusCode.ERROR)
                span.set_attribute("error.type", exc.code if isinstance(exc, DarkroomError) else type(exc).__name__)
                raise

    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier.get("traceparent")

    def close(self) -> None:
        self._provider.force_flush(_LAST_SPANS_MS)
        self._provider.shutdown()


class OtlpSpan:
    def __init__(self, span: OtelSpan) -> None:
        self._span = span

    def note(self, **attributes: Attribute) -> None:
        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(f"darkroom.{name}", value)
