"""A fake AI/ML API: as strict as the documented one, it keeps a bill and fails in every way on request.

In an event loop: `async with running(FakeProvider()) as base_url`. As a process, with the same switches over HTTP:
`python -m gateway.demo.provider --port 9000 [--delay 3]`, then `POST /_control` and `GET /_bill`.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import random
import re
import time
import uuid
from base64 import b64encode
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import parse_qs

from gateway.demo.answer_faults import AnswerFault, fail
from gateway.demo.asgi import Receive, Scope, Send, read, refuse, reply
from gateway.demo.books import CREDITS_PER_USD, BadQuery, Books, Row
from gateway.demo.pictures import File, ImageFault, bytes_of
from gateway.demo.rules import issues_of, pixels_of
from gateway.demo.serving import running, serve

__all__ = ["Behaviour", "FakeProvider", "running"]

ROUTE = "/v1/images/generations"
HUGE_BYTES = 40 * 2**20
INWARD = "http://169.254.169.254/latest/meta-data/"
OUT_OF_CREDITS = "You've run out of credits. Please top up your balance to continue."

Shape = Literal["A", "B", "C_url", "C_b64"]


@dataclass
class Behaviour:
    """How a call is met: `refuse_status` uncharged, faults charged. `images` caps how many come.

    `image_address` is given out in place of our own; `redirect_to` is where a picture redirects to when it has to.
    """

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
    image_address: str | None = None
    redirect_to: str = INWARD


@dataclass(frozen=True)
class Call:
    """A POST with a key that is known."""

    key: str
    at: float
    client_request_id: str | None
    origin: str
    how: Behaviour
    body: dict[str, Any] = dataclasses.field(default_factory=dict)
    inference_id: str = dataclasses.field(default_factory=lambda: f"inf-{uuid.uuid4()}")


class _Refusal(Exception):
    def __init__(self, status: int, message: str, *, data: Any = None, retry_after: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.data = data
        self.retry_after = retry_after


class FakeProvider:
    """An ASGI app.

    `bill`: every charged call, oldest first. `calls`: POSTs to the route, charged or not. `fetches`: the
    headers of each request for a picture. `traceparents`: those that POSTs carried, if any. `script`: overrides of
    `behaviour`, one dict a call, used up first.
    `gate`: when set to an event, calls are held until it is set, before they are charged. `books`: the accounts
    behind the keys, what each key meets, and what the logs show.
    """

    def __init__(
        self, *, keys: Iterable[str] = ("provider-secret",), models: Iterable[str] = ("flux-pro",), **how: Any
    ) -> None:
        self.books = Books(set(keys))
        self.models = set(models)
        self.behaviour = Behaviour(**how)
        self.script: deque[dict[str, Any]] = deque()
        self.bill: list[dict[str, Any]] = []
        self.calls = 0
        self.fetches: list[dict[str, str]] = []
        self.traceparents: list[str] = []
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
        try:
            if path == ROUTE and method == "POST":
                await self._generate(scope, headers, receive, send)
            elif path in {"/v2/logs", "/v2/billing"} and method == "GET":
                await self._show_books(path, headers, scope["query_string"].decode(), send)
            elif path.startswith("/files/") and method == "GET":
                self.fetches.append(headers)
                await self._serve_file(path.removeprefix("/files/"), send)
            elif path == "/_control" and method == "POST":
                await self._control(receive, send)
            elif path == "/_bill" and method == "GET":
                said = {"bill": self.bill, "calls": self.calls, "calls_by_key": self.books.calls_by_key}
                await reply(send, 200, said)
            else:
                raise _Refusal(404, f"Cannot {method} {scope['path']}")
        except _Refusal as no:
            await refuse(send, no.status, no.message, path=path, data=no.data, retry_after=no.retry_after)

    async def _control(self, receive: Receive, send: Send) -> None:
        """`{"delay_s": 1, "script": [{"answer_fault": "never"}], "key_faults": {"k": "revoked"}, "reset": true}`."""
        asked = json.loads(await read(receive))
        if asked.pop("reset", False):
            self.behaviour, self.bill, self.calls = Behaviour(), [], 0
            self.books = Books(self.books.keys)
            self.script.clear()
        if asked.pop("kill_images", False):
            self.kill_images()
        self.books.control(asked)
        self.script.extend(asked.pop("script", []))
        self.behaviour = dataclasses.replace(self.behaviour, **asked)
        await reply(send, 200, dataclasses.asdict(self.behaviour))

    async def _show_books(self, path: str, headers: dict[str, str], query: str, send: Send) -> None:
        key, now = self._key(headers), time.time()
        if self.books.books_status:
            raise _Refusal(self.books.books_status, "Refused on request")
        if path == "/v2/billing":
            return await reply(send, 200, {"current_balance": float(self.books.left_usd(key)), "currency": "USD"})
        if not self.books.may_read(key, now):
            raise _Refusal(429, "Too many requests")
        try:
            return await reply(send, 200, self.books.page(key, parse_qs(query, keep_blank_values=True), now))
        except BadQuery as exc:
            raise _Refusal(400, str(exc)) from exc

    def _key(self, headers: dict[str, str]) -> str:
        kind, _, key = headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not self.books.knows(key):
            raise _Refusal(401, "Invalid API key")
        return key

    async def _generate(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        how = dataclasses.replace(self.behaviour, **(self.script.popleft() if self.script else {}))
        at, raw = time.time(), await read(receive)
        self.books.calls_by_key[headers.get("authorization", "").removeprefix("Bearer ")] += 1
        async with self._changed:
            self.calls += 1
            self._changed.notify_all()
        said = headers.get("x-client-request-id", "")
        if "traceparent" in headers:
            self.traceparents.append(headers["traceparent"])
        request_id = said if re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", said) else None
        origin = f"{scope['scheme']}://{headers['host']}"
        call = Call(self._key(headers), at, request_id, origin, how)
        try:
            call = dataclasses.replace(call, body=self._body(headers, raw))
            self._check_key(call)
            await self._hold(how.delay_s)
            self._check_key(call)  # again: others may have used up what was left
            if how.refuse_status:
                raise _Refusal(how.refuse_status, how.message, retry_after=how.retry_after)
        except _Refusal:
            self._enter(call, "failed", Decimal(0))
            raise
        await self._answer(call, receive, send)

    def _body(self, headers: dict[str, str], raw: bytes) -> dict[str, Any]:
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise _Refusal(400, "Content-Type must be application/json")
        try:
            body = json.loads(raw)
        except ValueError as exc:
            raise _Refusal(400, "Malformed JSON") from exc
        if issues := issues_of(body, self.models):
            raise _Refusal(400, "Invalid payload provided", data=issues)
        good: dict[str, Any] = body
        return good

    def _check_key(self, call: Call) -> None:
        if self.books.left_usd(call.key) <= 0:
            # The provider's own spelling.
            raise _Refusal(403, OUT_OF_CREDITS, data={"kind": "err_insufficent_credits"})
        if self.books.key_faults.get(call.key) == "rate_limited":
            raise _Refusal(429, "Too many requests", retry_after=call.how.retry_after or "1")

    async def _hold(self, delay_s: float) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if delay_s:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.closing.wait(), delay_s)

    def _enter(self, call: Call, status: Literal["succeeded", "failed"], cost_usd: Decimal) -> None:
        """A row of the logs. Refused calls have one too, without a cost."""
        model = str(call.body.get("model", ""))
        row = Row(call.key, call.at, status, model, cost_usd, call.inference_id, call.client_request_id)
        self.books.rows.append(row)

    async def _answer(self, call: Call, receive: Receive, send: Send) -> None:
        count = min(call.body.get("num_images", 1), call.how.images or 4)
        cost = Decimal(call.how.price_usd) * count
        self.books.charge(call.key, cost)
        self._enter(call, "succeeded", cost)
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
        if call.how.answer_fault is None:
            await reply(send, 200, content, _headers(call, cost))
        else:
            await fail(call.how.answer_fault, content, receive, send, closing=self.closing)

    def _content(self, call: Call, count: int, cost: Decimal) -> dict[str, Any]:
        seed = call.body.get("seed") or random.randint(1, 2**31)  # noqa: S311
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
        if call.how.image_address is not None:
            return call.how.image_address
        name = f"{uuid.uuid4().hex}.{'jpg' if file.format == 'jpeg' else 'png'}"
        self._files[name] = file
        return f"{call.origin}/files/{name}"

    async def _serve_file(self, name: str, send: Send) -> None:
        file = self._files.get(name)
        if file is None or file.fault == "missing":
            await reply(send, 404, b"<Error>NoSuchKey</Error>", {"content-type": "application/xml"})
        elif file.fault == "redirect_inward":
            await reply(send, 302, b"", {"location": self.behaviour.redirect_to})
        elif file.fault == "huge":
            await _send_huge(send)
        else:
            claimed = "text/html" if file.fault == "html" else f"image/{file.format}"
            await reply(send, 200, bytes_of(file), {"content-type": claimed})


def _headers(call: Call, cost_usd: Decimal) -> dict[str, str]:
    headers = {"x-inference-id": call.inference_id}
    if call.client_request_id:
        headers["x-client-request-id"] = call.client_request_id
    if call.how.state_cost:
        headers["x-aimlapi-usd-spent"] = str(cost_usd)
        headers["x-aimlapi-credits-used"] = str(int(cost_usd * CREDITS_PER_USD))
    return headers


async def _send_huge(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"image/jpeg")]})
    await send({"type": "http.response.body", "body": b"\xff\xd8\xff", "more_body": True})
    for _ in range(HUGE_BYTES // 2**20):
        await send({"type": "http.response.body", "body": bytes(2**20), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def main() -> None:
    parser = argparse.ArgumentParser(description="A fake AI/ML API with a bill.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--key", action="append", help="an accepted API key (default: provider-secret)")
    asked = parser.parse_args()
    serve(FakeProvider(keys=asked.key or ["provider-secret"], delay_s=asked.delay), port=asked.port)


if __name__ == "__main__":
    main()
