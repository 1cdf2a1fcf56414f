"""What leaves the transport: a head with its body, and nothing later than without us."""

from __future__ import annotations

import asyncio

import pytest

from gateway.api.one_write import HeadsWait

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


class Transport:
    """Keeps what it is told to do."""

    def __init__(self) -> None:
        self.done: list[bytes | str] = []
        self.write = self.done.append

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
async def waiting(transport: Transport) -> HeadsWait:
    return HeadsWait(transport, asyncio.get_running_loop())  # type: ignore[arg-type]


async def test_a_head_leaves_with_its_body(transport: Transport, waiting: HeadsWait):
    waiting.write(HEAD)
    waiting.write(b"body")
    await asyncio.sleep(0)
    assert transport.done == [HEAD + b"body"]


async def test_a_head_without_a_body_leaves_in_the_next_turn(transport: Transport, waiting: HeadsWait):
    waiting.write(HEAD)
    await asyncio.sleep(0)
    assert transport.done == [HEAD]
    waiting.write(b"body")
    assert transport.done == [HEAD, b"body"]


async def test_two_heads_one_after_the_other_keep_their_order(transport: Transport, waiting: HeadsWait):
    waiting.write(HEAD)
    waiting.write(HEAD + b"body")
    waiting.write(HEAD)
    waiting.close()
    assert transport.done == [HEAD + HEAD + b"body", HEAD, "close"]


async def test_an_abort_throws_away_what_waits(transport: Transport, waiting: HeadsWait):
    waiting.write(HEAD)
    waiting.abort()
    await asyncio.sleep(0)
    assert transport.done == ["abort"]
