"""A fake AI/ML API: as strict as the documented one, it keeps a bill and fails in every way on request.

In a test: `async with running(FakeProvider()) as base_url`. As a process, with the same switches over HTTP:
`python -m tests.support.fake_provider --port 9000 [--delay 3]`, then `POST /_control` and `GET /_bill`.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import random
import re
import socket
import time
import uuid
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import uvicorn

from tests.support.fake_pictures import File, ImageFault, bytes_of
from tests.support.fake_rules import issues_of, pixels_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ROUTE = "/v1/images/generations"
CREDITS_PER_USD = 2_000_000
HUGE_BYTES = 40 * 2**20
INWARD = "http://169.254.169.254/latest/meta-data/"

Shape = Literal["A", "B", "C_url", "C_b64"]
AnswerFault = Literal["truncated_json", "html_200", "html_502", "empty_images", "reset_after_charge", "never", "drip"]
NAMES = {
    400: "BadRequestException",
    401: "UnauthorizedException",
    403: "ForbiddenException",
    404: "NotFoundException",
}


@dataclass
class Behaviour:
    """How a call is met: `refuse_status` uncharged, faults charged. `images` caps how many come."""

    delay_s: float = 0.0
    price_usd: str = "0.065"
    shape: Shape = "B"
    state_cost: bool = True
    refuse_status: int | None = None
    message: str = "Refused on request"
    retry_after: str | None = None
    images: int | None = None
    answer_fault: AnswerFault | None = None
    image_fault: ImageFault | None = None


@dataclass(frozen=True)
class Call:
    """A POST that passed the checks."""

    key: str
    client_request_id: str | None
    body: dict[str, Any]
    origin: str
    how: Behaviour


class FakeProvider:
    """An ASGI app.

    `bill`: every charged call, oldest first. `calls`: POSTs to the route, charged or not. `fetches`: the
    headers of each request for a picture. `script`: overrides of `behaviour`, one dict a call, used up first.
    `gate`: when set to an event, calls are held until it is set, before they are charged.
    """

    def __init__(
        self, *, keys: Iterable[str] = ("provider-secret",), models: Iterable[str] = ("flux-pro",), **how: Any
    ) -> None:
        self.keys = set(keys)
        self.models = set(models)
        self.behaviour = Behaviour(**how)
        self.script: deque[dict[str, Any]] = deque()
        self.bill: list[dict[str, Any]] = []
        self.calls = 0
        self.fetches: list[dict[str, str]] = []
        self.gate: asyncio.Event | None = None
        self.closing = asyncio.Event()
        self._changed = asyncio.Condition()
        self._files: dict[str, File] = {}

    def kill_images(self) -> None:
        """Every address given out so far answers 404 from now on."""
        self._files.clear()

    def mend_images(self) -> None:
        """Every address given out so far shows its picture from now on."""
        self._files = {name: dataclasses.replace(file, fault=None) for name, file in self._files.items()}

    async def wait_for_calls(self, count: int) -> None:
        """Until `count` calls have arrived since the start."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.calls >= count)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"].rstrip("/"), scope["method"]
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        if path == ROUTE and method == "POST":
            await self._generate(scope, headers, receive, send)
        elif path.startswith("/files/") and method == "GET":
            self.fetches.append(headers)
            await self._serve_file(path.removeprefix("/files/"), send)
        elif path == "/_control" and method == "POST":
            await self._control(receive, send)
        elif path == "/_bill" and method == "GET":
            await _reply(send, 200, {"bill": self.bill, "calls": self.calls})
        else:
            await _refuse(send, 404, f"Cannot {method} {scope['path']}")

    async def _control(self, receive: Receive, send: Send) -> None:
        """`{"delay_s": 1, "script": [{"answer_fault": "never"}], "kill_images": true, "reset": true}`."""
        asked = json.loads(await _read(receive))
        if asked.pop("reset", False):
            self.behaviour, self.bill, self.calls = Behaviour(), [], 0
            self.script.clear()
        if asked.pop("kill_images", False):
            self.kill_images()
        self.script.extend(asked.pop("script", []))
        self.behaviour = dataclasses.replace(self.behaviour, **asked)
        await _reply(send, 200, dataclasses.asdict(self.behaviour))

    async def _generate(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        how = dataclasses.replace(self.behaviour, **(self.script.popleft() if self.script else {}))
        raw = await _read(receive)
        async with self._changed:
            self.calls += 1
            self._changed.notify_all()
        key = headers.get("authorization", "").removeprefix("Bearer ")
        if key not in self.keys or not headers["authorization"].startswith("Bearer "):
            return await _refuse(send, 401, "Invalid API key")
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return await _refuse(send, 400, "Content-Type must be application/json")
        try:
            body = json.loads(raw)
        except ValueError:
            return await _refuse(send, 400, "Malformed JSON")
        if issues := issues_of(body, self.models):
            return await _refuse(send, 400, "Invalid payload provided", data=issues)
        await self._hold(how.delay_s)
        if how.refuse_status:
            return await _refuse(send, how.refuse_status, how.message, retry_after=how.retry_after)
        said = headers.get("x-client-request-id", "")
        request_id = said if re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", said) else None
        origin = f"{scope['scheme']}://{headers['host']}"
        return await self._answer(Call(key, request_id, body, origin, how), receive, send)

    async def _hold(self, delay_s: float) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if delay_s:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.closing.wait(), delay_s)

    async def _answer(self, call: Call, receive: Receive, send: Send) -> None:
        count = min(call.body.get("num_images", 1), call.how.images or 4)
        cost = Decimal(call.how.price_usd) * count
        self.bill.append(
            {
                "client_request_id": call.client_request_id,
                "key": call.key,
                "model": call.body["model"],
                "body": call.body,
                "images": 0 if call.how.answer_fault else count,
                "cost_usd": str(cost),
                "at": time.time(),
            }
        )
        content = self._content(call, count, cost)
        headers = {"x-inference-id": f"inf-{uuid.uuid4()}"}
        if call.client_request_id:
            headers["x-client-request-id"] = call.client_request_id
        if call.how.state_cost:
            headers["x-aimlapi-usd-spent"] = str(cost)
            headers["x-aimlapi-credits-used"] = str(int(cost * CREDITS_PER_USD))
        if call.how.answer_fault is None:
            await _reply(send, 200, content, headers)
        else:
            await self._fail(call.how.answer_fault, content, receive, send)

    def _content(self, call: Call, count: int, cost: Decimal) -> dict[str, Any]:
        seed = call.body.get("seed") or random.randint(1, 2**31)
        files = [self._file(call, f"{seed}/{call.body['prompt']}/{i}") for i in range(count)]
        if call.how.answer_fault == "empty_images":
            files = []
        created = {"created": int(time.time())}
        usage = {"credits_used": int(cost * CREDITS_PER_USD), "usd_spent": float(cost)}
        meta = {"meta": {"usage": usage}} if call.how.state_cost else {}
        if call.how.shape == "C_url":
            data = [{"url": self._publish(call, f), "b64_json": None} for f in files]
            return created | {"data": data} | meta
        if call.how.shape == "C_b64":
            drawn = [{"url": None, "b64_json": b64encode(bytes_of(f)).decode()} for f in files]
            return created | {"data": drawn} | meta
        images = [
            {
                "url": self._publish(call, f),
                "width": f.width,
                "height": f.height,
                "content_type": f"image/{f.format}",
            }
            for f in files
        ]
        said = {"images": images, "timings": {"inference": 1.5}, "seed": seed}
        said |= {"has_nsfw_concepts": [False] * len(files), "prompt": call.body["prompt"]}
        return said if call.how.shape == "A" else created | said | {"data": images} | meta

    def _file(self, call: Call, key: str) -> File:
        width, height = pixels_of(call.body)
        return File(key, width, height, call.body.get("output_format", "jpeg"), call.how.image_fault)

    def _publish(self, call: Call, file: File) -> str:
        name = f"{uuid.uuid4().hex}.{'jpg' if file.format == 'jpeg' else 'png'}"
        self._files[name] = file
        return f"{call.origin}/files/{name}"

    async def _fail(self, fault: AnswerFault, content: dict[str, Any], receive: Receive, send: Send) -> None:
        if fault == "empty_images":
            await _reply(send, 200, content)
        elif fault == "truncated_json":
            await _reply(send, 200, json.dumps(content).encode()[:-20])
        elif fault in {"html_200", "html_502"}:
            page = b"<!doctype html><title>Bad gateway</title>"
            await _reply(send, int(fault[-3:]), page, {"content-type": "text/html"})
        elif fault == "reset_after_charge":
            _abort(send)
            await self._until_gone(receive)
        elif fault == "never":
            await self._until_gone(receive)
        else:
            await self._drip(receive, send)

    async def _drip(self, receive: Receive, send: Send) -> None:
        """White space for ever: always a little more, never an answer."""
        gone = asyncio.create_task(self._until_gone(receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            await asyncio.wait({gone}, timeout=0.02)

    async def _until_gone(self, receive: Receive) -> None:
        """Until the client has left or the server closes."""

        async def left() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        tasks = {asyncio.create_task(left()), asyncio.create_task(self.closing.wait())}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()

    async def _serve_file(self, name: str, send: Send) -> None:
        file = self._files.get(name)
        if file is None or file.fault == "missing":
            await _reply(send, 404, b"<Error>NoSuchKey</Error>", {"content-type": "application/xml"})
        elif file.fault == "redirect_inward":
            await _reply(send, 302, b"", {"location": INWARD})
        elif file.fault == "huge":
            await _send_huge(send)
        else:
            claimed = "text/html" if file.fault == "html" else f"image/{file.format}"
            await _reply(send, 200, bytes_of(file), {"content-type": claimed})


async def _send_huge(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"image/jpeg")]})
    await send({"type": "http.response.body", "body": b"\xff\xd8\xff", "more_body": True})
    for _ in range(HUGE_BYTES // 2**20):
        await send({"type": "http.response.body", "body": bytes(2**20), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _read(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _reply(send: Send, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    named = {"content-type": "application/json", "content-length": str(len(body))} | (headers or {})
    pairs = [(name.encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def _refuse(send: Send, status: int, message: str, *, data: Any = None, retry_after: str | None = None) -> None:
    envelope = {
        "title": NAMES.get(status, "Error"),
        "status": status,
        "message": message,
        "instance": f"{ROUTE}?",
        "requestId": str(uuid.uuid4()),
        "statusCode": status,
        "path": ROUTE,
        "error": {"name": NAMES.get(status, "HttpException"), "message": message, "data": data},
    }
    await _reply(send, status, envelope, {"retry-after": retry_after} if retry_after else None)


def _abort(send: Send) -> None:
    """Drop the connection without a word. ASGI has no such message, so uvicorn's own transport is used."""
    send.__self__.transport.abort()  # type: ignore[attr-defined]


class _QuietServer(uvicorn.Server):
    """Leaves the signal handlers of the process alone."""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await self._serve(sockets)


def _listen(port: int) -> socket.socket:
    """Listening already, so that whoever reads the port may connect at once."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(2048)
    return listener


def _config(app: FakeProvider) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
    )


@asynccontextmanager
async def running(fake: FakeProvider, *, port: int = 0) -> AsyncIterator[str]:
    """Serve `fake` in this event loop; yields its base URL."""
    listener = _listen(port)
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = _QuietServer(_config(fake))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield base_url
    finally:
        fake.closing.set()
        server.should_exit = True
        await serving


def main() -> None:
    parser = argparse.ArgumentParser(description="A fake AI/ML API with a bill.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--key", action="append", help="an accepted API key (default: provider-secret)")
    asked = parser.parse_args()
    fake = FakeProvider(keys=asked.key or ["provider-secret"], delay_s=asked.delay)
    listener = _listen(asked.port)
    print(f"ready http://127.0.0.1:{listener.getsockname()[1]}", flush=True)  # noqa: T201
    uvicorn.Server(_config(fake)).run([listener])


if __name__ == "__main__":
    main()
