"""Where spans go: to a collector, or nowhere."""

from __future__ import annotations

from gateway.config_operations import TracingSettings
from gateway.errors import ConfigurationError
from gateway.telemetry.tracing import NO_TRACING, Tracing


def open_tracing(settings: TracingSettings) -> Tracing:
    """Raises ConfigurationError where OpenTelemetry is not installed."""
    if settings.endpoint is None:
        return NO_TRACING
    try:
        from gateway.telemetry.otlp import OtlpTracing  # noqa: PLC0415  (an extra, and heavy)
    except ImportError as exc:
        raise ConfigurationError(
            "tracing.endpoint is set, but OpenTelemetry is not installed: pip install 'darkroom-gateway[otel]'"
        ) from exc
    return OtlpTracing(settings.endpoint, sample_ratio=settings.sample_ratio)
