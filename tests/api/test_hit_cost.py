"""What a hit costs, in instructions of the interpreter: they depend on no machine, and on nothing else that it does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import structlog
from uvicorn.server import ServerState

from gateway.api.serving import server_config
from gateway.app import create_app
from gateway.config import Settings
from gateway.resources import open_resources

MOST_INSTRUCTIONS = 1540
"""It takes 1,494 today. Whoever needs more than that for every hit says here what for."""


class Wire(asyncio.Transport):
    """The other end of a connection: keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.answered = asyncio.Event()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in {"peername", "sockname"} else default

    def write(self, data: Any) -> None:
        self.written += data
        self.answered.set()

    def is_closing(self) -> bool:
        return False

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def _debug_is_off() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("info"))
    yield
    structlog.reset_defaults()


def instructions(work: Callable[[], object]) -> int:
    """How many bytecodes the interpreter executes, calls into Python code included."""
    count = 0

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def calls_of_the_system(work: Callable[[], object]) -> list[str]:
    """What it asks of the operating system by Python's `os`."""
    made: list[str] = []

    def note(_frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and function.__module__ == os.open.__module__:
            made.append(function.__name__)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return made


def request(key: str) -> bytes:
    body = json.dumps({"model": "flux-pro", "prompt": "A lighthouse at dawn", "seed": 7}).encode()
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.usefixtures("_debug_is_off")
async def test_a_hit_takes_no_more_instructions_than_it_did(tmp_path: Path) -> None:
    rates = [{"metric": "requests", "window": window, "amount": "1000000"} for window in ("minute", "hour")]
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path,
            "server": {"port": 8080},
            "providers": [{"kind": "aimlapi"}, {"kind": "sandbox", "delay_s": 0}],
            "limits": {"user": rates},
        }
    )
    async with open_resources(settings) as resources:
        config = server_config(create_app(settings, resources=resources), settings, resources)
        config.load()
        state, wire = ServerState(), Wire()
        protocol = config.http_protocol_class(config, state, {}, asyncio.get_running_loop())  # type: ignore[call-arg]
        protocol.connection_made(wire)
        assert resources.test_key is not None
        sent = request(resources.test_key)
        protocol.data_received(sent)
        while b"fwd=miss; stored" not in wire.written:
            wire.answered.clear()
            await wire.answered.wait()
        protocol.data_received(sent)  # the first hit is put together, later ones are sent
        wire.written = b""
        taken = instructions(lambda: protocol.data_received(sent))
        assert b"cache-status: darkroom; hit" in wire.written
        assert wire.written.count(b"ratelimit: ") == 1
        assert calls_of_the_system(lambda: protocol.data_received(sent)) == ["write"]  # of its row
        protocol.connection_lost(None)
    assert MOST_INSTRUCTIONS * 2 // 3 < taken <= MOST_INSTRUCTIONS
