"""Logs: structlog, JSON or for people. Prompts and keys are never passed to a logger; this is where the rule lives.

Names of fields: request_id, generation_id, key_id, user_id, model, mode, outcome, code, status, latency_ms.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Literal, TextIO, cast

import msgspec
import structlog


def configure_logs(*, style: Literal["auto", "json", "console"], level: str) -> None:
    """Set up logging for the process: ours by structlog, libraries' warnings through it."""
    stream = cast("TextIO", ForgivingStream(sys.stderr))
    for_people = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        # plain: a rich traceback shows local variables, and so keys and prompts
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if for_people
        else structlog.processors.JSONRenderer(serializer=_json)
    )
    tail: list[structlog.typing.Processor] = [] if for_people else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[*shared, *tail, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=[*shared, *tail]))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class ForgivingStream:
    """Loses what can't be written (its reader gone, the disk full): a log must never break the call it tells of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def _json(event: object, **_: object) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
