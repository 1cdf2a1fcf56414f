"""A provider that costs next to nothing: it answers as AI/ML API does, and holds calls open by the thousand.

`python -m benchmarks.lean_provider PORT [DELAY_S | held]`: each answer comes DELAY_S after its call (0 when not said),
or is held until `GET /_release`. `GET /_state` says how many calls are open; times are of the machine's monotonic
clock. Pictures are 512 x 512 JPEGs of 70 KB, alike but for a comment with the seed, so that no two have the same bytes.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from io import BytesIO
from typing import Any, cast

import httptools
import uvloop
from PIL import Image

SIDE = 512
PRICE_USD = 0.065
_GRAIN = 128
_GRAIN_SHARE = 0.4


def draw() -> bytes:
    """A picture as large as a photograph of its size: soft shapes with grain over them."""
    noise = random.Random(1)
    soft, grain = (
        Image.frombytes("RGB", (side, side), noise.randbytes(side * side * 3)).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        for side in (16, _GRAIN)
    )
    out = BytesIO()
    Image.blend(soft, grain, _GRAIN_SHARE).save(out, "JPEG", quality=85)
    return out.getvalue()


def with_comment(picture: bytes, comment: bytes) -> bytes:
    """The same picture in other bytes: a comment segment (COM) behind the start marker."""
    return picture[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + picture[2:]


@dataclass
class State:
    """`last_answer_s`: when the latest answer was sent."""

    calls: int = 0
    open: int = 0
    most_open: int = 0
    last_answer_s: float = 0.0


@dataclass
class Provider:
    """What its connections share. `delay_s` None: answers are held."""

    base_url: str
    delay_s: float | None
    picture: bytes = field(default_factory=draw)
    state: State = field(default_factory=State)
    held: list[Callable[[], None]] = field(default_factory=list)

    def accept(self, answer: Callable[[], None]) -> None:
        """Have `answer` called when its time has come."""
        state = self.state
        state.calls += 1
        state.open += 1
        state.most_open = max(state.most_open, state.open)
        if self.delay_s is None:
            self.held.append(answer)
        elif self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, answer)
        else:
            answer()

    def answered(self) -> None:
        self.state.open -= 1
        self.state.last_answer_s = time.monotonic()

    def release(self) -> None:
        held, self.held = self.held, []
        for answer in held:
            answer()

    def content(self, body: dict[str, Any]) -> dict[str, Any]:
        seed = body["seed"]
        url = f"{self.base_url}/files/{seed}.jpg"
        images = [{"url": url, "width": SIDE, "height": SIDE, "content_type": "image/jpeg"}]
        usage = {"credits_used": int(PRICE_USD * 2_000_000), "usd_spent": PRICE_USD}
        said = {"created": 1, "images": images, "timings": {"inference": 1.5}, "seed": seed, "data": images}
        return said | {"has_nsfw_concepts": [False], "prompt": body["prompt"], "meta": {"usage": usage}}


class _Connection(asyncio.Protocol):
    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._parser = httptools.HttpRequestParser(self)
        self._url = self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is no subclass

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        provider, url = self._provider, self._url.decode()
        if url == "/v1/images/generations":
            body = json.loads(self._body)
            provider.accept(lambda: self._answer(body))
        elif url.startswith("/files/"):
            self._send(with_comment(provider.picture, url.encode()), "image/jpeg")
        elif url == "/_release":
            provider.release()
            self._send_json({})
        elif url == "/_state":
            self._send_json(asdict(provider.state))
        else:
            self._send_json({"current_balance": 1e6, "currency": "USD"})

    def _answer(self, body: dict[str, Any]) -> None:
        self._provider.answered()
        self._send_json(self._provider.content(body))

    def _send_json(self, content: dict[str, Any]) -> None:
        self._send(json.dumps(content).encode(), "application/json")

    def _send(self, body: bytes, content_type: str) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def _serve(port: int, delay_s: float | None) -> None:
    provider = Provider(f"http://127.0.0.1:{port}", delay_s)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(provider), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


def main() -> None:
    delay = sys.argv[2] if len(sys.argv) > 2 else "0"
    uvloop.run(_serve(int(sys.argv[1]), None if delay == "held" else float(delay)))


if __name__ == "__main__":
    main()
