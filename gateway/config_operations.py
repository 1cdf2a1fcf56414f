"""The sections of the settings that are for whoever runs it: its own port, logs, traces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from gateway.config_sections import Section, web_address


class ManagementSettings(Section):
    host: str = "127.0.0.1"
    """Of port: address to listen on."""
    port: int | None = Field(None, ge=1, le=65535)
    """Port of its own for /metrics and /admin/v1, which then answer there only. null: on server.port."""

    @property
    def base_url(self) -> str:
        """Where this machine reaches it. Only with a port."""
        return f"http://{reachable(self.host)}:{self.port}"


class ConsoleSettings(Section):
    enabled: bool = True
    """Whether /console answers. Without it all of it is in the admin API still."""
    session_s: int = Field(43_200, ge=300, le=2_592_000)
    """How long somebody stays signed in."""


def reachable(host: str) -> str:
    """The host of an address at which what listens on `host` is found from the same machine."""
    found = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (looked for, not listened on)
    return f"[{found}]" if ":" in found else found


class LogSettings(Section):
    format: Literal["auto", "json", "console"] = "auto"
    """auto: for people on a terminal, JSON otherwise."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """debug also logs every hit."""


class TracingSettings(Section):
    endpoint: str | None = None
    """Where traces go by OTLP over HTTP, like http://collector:4318. null: nowhere. Needs the extra `otel`."""
    sample_ratio: float = Field(1.0, ge=0, le=1)
    """Share of the calls that are traced; where a caller's traceparent says whether, it decides."""

    @field_validator("endpoint")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        return None if value is None else web_address(value)
