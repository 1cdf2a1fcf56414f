"""Answers that are none: the call is charged, and what comes back is broken, late or nothing at all."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

from gateway.demo.asgi import Receive, Send, abort, reply

AnswerFault = Literal["truncated_json", "html_200", "html_502", "empty_images", "reset_after_charge", "never", "drip"]


async def fail(
    fault: AnswerFault, content: dict[str, Any], receive: Receive, send: Send, *, closing: asyncio.Event
) -> None:
    """Answer as `fault` says; `content` is the good answer. Whatever waits is let go when `closing` is set."""
    if fault == "empty_images":
        await reply(send, 200, content)
    elif fault == "truncated_json":
        await reply(send, 200, json.dumps(content).encode()[:-20])
    elif fault in {"html_200", "html_502"}:
        page = b"<!doctype html><title>Bad gateway</title>"
        await reply(send, int(fault[-3:]), page, {"content-type": "text/html"})
    elif fault == "reset_after_charge":
        abort(send)
        await _until_gone(receive, closing)
    elif fault == "never":
        await _until_gone(receive, closing)
    else:
        await _drip(receive, send, closing)


async def _drip(receive: Receive, send: Send, closing: asyncio.Event) -> None:
    """White space for ever: always a little more, never an answer."""
    gone = asyncio.create_task(_until_gone(receive, closing))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while not gone.done():
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        await asyncio.wait({gone}, timeout=0.02)


async def _until_gone(receive: Receive, closing: asyncio.Event) -> None:
    """Until the client has left or the server closes."""

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = {asyncio.create_task(left()), asyncio.create_task(closing.wait())}
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
