"""What a bucket alone can do: servers that know less, look otherwise, or are slow; addresses that lead to it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import obstore
import pytest
from PIL import Image

from gateway.errors import StorageFailed
from gateway.storage.images import cannot_read
from gateway.storage.images_s3 import S3ImageStore
from gateway.storage.s3_bucket import asking, open_bucket
from tests.storage.test_images import DATA, SHA, bucket
from tests.support.raw_server import raw_server, read_request
from tests.support.s3 import S3Server

ERROR = "<Error><Code>{}</Code></Error>"


class Canned:
    """A server by rule: `answer` is given the head of a request and says status and body. `asked`: all heads."""

    def __init__(self, answer: Callable[[str], tuple[int, str]]) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.now_s = 0.0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await read_request(reader)).partition(b"\r\n\r\n")[0].decode().lower()
        self.asked.append(head)
        status, body = self.answer(head)
        lines = [f"HTTP/1.1 {status} Said", "ETag: x", "Connection: close", f"Content-Length: {len(body)}", "", body]
        writer.write("\r\n".join(lines).encode())
        await writer.drain()

    def methods(self) -> list[str]:
        """What was asked since the last look, a put on a condition marked so."""
        said = [head.split(" ")[0] + ("?" if "if-none-match: *" in head else "") for head in self.asked]
        self.asked.clear()
        return said


@asynccontextmanager
async def canned(answer: Callable[[str], tuple[int, str]]) -> AsyncIterator[tuple[Canned, S3ImageStore]]:
    server = Canned(answer)
    async with raw_server(server.handle) as port:
        store = S3ImageStore(bucket(f"http://127.0.0.1:{port}"), place="here", clock=lambda: server.now_s)
        yield server, store


def refusing(status: int, code: str) -> Callable[[str], tuple[int, str]]:
    return lambda _head: (status, ERROR.format(code))


async def test_a_picture_goes_with_its_checksum_on_the_condition_that_it_is_new():
    async with canned(lambda _head: (200, "")) as (server, store):
        await store.put(SHA, DATA)
        [head] = server.asked
        assert head.startswith(f"put /pictures/{SHA[:2]}/{SHA} ")
        assert "\r\nif-none-match: *" in head
        digest = base64.b64encode(bytes.fromhex(SHA)).decode().lower()
        assert f"\r\nx-amz-checksum-sha256: {digest}" in head
        assert f"\r\nx-amz-content-sha256: {SHA}" in head


async def test_a_server_without_conditional_puts_is_looked_at_first():
    def answer(head: str) -> tuple[int, str]:
        if "if-none-match" in head:
            return 501, ERROR.format("NotImplemented")
        return (404, ERROR.format("NoSuchKey")) if head.startswith("get") else (200, "")

    async with canned(answer) as (server, store):
        await store.put(SHA, DATA)
        tried = server.methods()
        assert (set(tried[:-2]), tried[-2:]) == ({"put?"}, ["get", "put"])
        await store.put(SHA, DATA)
        assert server.methods() == ["get", "put"]
        server.now_s += 6
        await store.check()
        assert server.methods() == ["put"]


async def test_a_check_asks_once_for_all_who_ask_and_trusts_good_news_for_a_while():
    async with canned(refusing(412, "PreconditionFailed")) as (server, store):
        await asyncio.gather(*(store.check() for _ in range(20)))
        server.now_s += 4
        await store.check()
        assert server.methods() == ["put?"]
        server.now_s += 2
        await store.check()
        assert server.methods() == ["put?"]


async def test_bad_news_are_not_trusted_and_end_the_trust_in_good_ones():
    async with canned(lambda _head: (200, "")) as (server, store):
        await store.check()
        server.answer = refusing(403, "AccessDenied")
        await store.check()
        with pytest.raises(StorageFailed):
            await store.put(SHA, DATA)
        server.methods()
        for _ in range(2):
            with pytest.raises(
                StorageFailed, match=r"\(the bucket says 403 Forbidden, AccessDenied\), so nothing was bought"
            ):
                await store.check()
        assert server.methods() == ["put?", "put?"]
        server.answer = lambda _head: (200, "")
        await store.check()


async def test_a_check_that_its_caller_did_not_wait_for_breaks_nothing():
    async with canned(refusing(403, "AccessDenied")) as (_, store):
        left = asyncio.create_task(store.check())
        stayed = asyncio.create_task(store.check())
        await asyncio.wait({left}, timeout=0)
        left.cancel()
        with pytest.raises(StorageFailed):
            await stayed


async def test_what_a_server_does_not_find_may_be_deleted():
    async with canned(refusing(404, "NoSuchKey")) as (server, store):
        await store.delete([SHA, SHA])
        assert server.methods() == ["delete", "delete"]


async def test_without_its_bucket_nothing_is_missing_but_all_out_of_reach(s3: S3Server):
    place = {"endpoint_url": s3.url, "region": "us-east-1"}
    store = S3ImageStore(open_bucket("nobody-s", credentials=("key", "secret"), **place), place="nowhere")
    for call in (store.get(SHA), store.contains(SHA), store.open(SHA, 0, 1), store.check(), store.delete([SHA])):
        with pytest.raises(StorageFailed, match="404 Not Found, NoSuchBucket"):
            await call


async def test_an_object_that_is_not_these_bytes_is_written_anew(s3: S3Server):
    objects = bucket(s3.url, prefix=uuid4().hex)
    await obstore.put_async(objects, f"{SHA[:2]}/{SHA}", b"half a pict")
    store = S3ImageStore(objects, place="the bucket")
    await store.put(SHA, DATA)
    assert await store.get(SHA) == DATA


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
async def test_an_address_of_the_bucket_serves_the_picture_with_its_type_and_to_all(s3: S3Server, kind: str):
    file = io.BytesIO()
    Image.new("RGB", (9, 9)).save(file, kind)
    sha256 = hashlib.sha256(file.getvalue()).hexdigest()
    store = S3ImageStore(bucket(s3.url, prefix=uuid4().hex), place="the bucket", redirects=True)
    await store.put(sha256, file.getvalue())
    async with httpx.AsyncClient() as client:
        served = await client.get(await store.address(sha256, "GET") or "")
        head = await client.head(await store.address(sha256, "HEAD") or "")
    assert (served.content, served.headers["content-type"]) == (file.getvalue(), f"image/{kind}")
    assert (head.status_code, head.headers["content-type"]) == (200, f"image/{kind}")
    assert re.search("X-Amz-Expires=300&", str(served.request.url))


async def test_what_takes_too_long_is_a_refusal():
    with pytest.raises(StorageFailed, match=r"\(the bucket did not answer within 0.001 s\)"):
        async with asking(cannot_read, patience_s=0.001):
            await asyncio.Event().wait()
