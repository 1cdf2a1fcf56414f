"""The whole gateway with its pictures in a bucket: bought, served, removed, and what holds while the bucket is gone."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import obstore
import pytest
import sqlalchemy as sa

from gateway.demo.provider import FakeProvider
from gateway.resources import examine
from gateway.storage import tables
from tests.e2e.test_faults import unspooled
from tests.storage.test_images import bucket
from tests.support.gateway import Gateway, gateway_and_provider, settings_for
from tests.support.s3 import S3Server, running_s3
from tests.support.waiting import until


@asynccontextmanager
async def gateway_on(server: S3Server, folder: Path, **chosen: Any) -> AsyncIterator[tuple[Gateway, FakeProvider, str]]:
    """With a prefix of its own in the bucket."""
    prefix = uuid4().hex
    store = {**server.settings, "prefix": prefix, **chosen}
    async with gateway_and_provider(folder / "data", image_store=store) as (gateway, fake):
        yield gateway, fake, prefix


async def kept(server: S3Server, prefix: str) -> list[str]:
    """The SHA-256 of all pictures in the bucket."""
    found = [one["path"] async for page in obstore.list(bucket(server.url, prefix)) for one in page]
    return [path.rpartition("/")[2] for path in found if path != ".darkroom"]


def url_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"][0]["url"])


async def test_a_picture_is_bought_once_kept_in_the_bucket_and_served_from_there(s3: S3Server, tmp_path: Path) -> None:
    async with gateway_on(s3, tmp_path) as (gateway, fake, prefix):
        key = await gateway.new_key()
        url = url_of(await gateway.generate(key, seed=1, output_format="png"))
        hit = await gateway.generate(key, seed=1, output_format="png", response_format="b64_json")
        assert (hit.headers["cache-status"], fake.calls) == ("darkroom; hit", 1)
        served = await gateway.get(url)
        sha256 = hashlib.sha256(served.content).hexdigest()
        assert base64.b64decode(hit.json()["data"][0]["b64_json"]) == served.content
        assert await kept(s3, prefix) == [sha256]
        assert served.headers["content-type"] == "image/png"
        assert served.headers["etag"] == f'"{sha256}"'
        assert served.headers["x-content-type-options"] == "nosniff"
        assert "immutable" in served.headers["cache-control"]
        assert not (tmp_path / "data" / "images").exists()


@pytest.mark.parametrize("kind", ["local", "s3"])
async def test_parts_and_heads_are_the_same_from_files_and_from_a_bucket(
    s3: S3Server, tmp_path: Path, kind: str
) -> None:
    store = s3.settings if kind == "s3" else {"kind": "local"}
    async with gateway_and_provider(tmp_path / "data", image_store=store) as (gateway, _):
        url = url_of(await gateway.generate(await gateway.new_key(mode="test"), seed=1))
        whole = await gateway.get(url)
        size, etag = len(whole.content), whole.headers["etag"]
        for asked, part in (("0-3", slice(0, 4)), ("-4", slice(size - 4, size)), (f"4-{size * 2}", slice(4, size))):
            answer = await gateway.get(url, range=f"bytes={asked}", **{"if-range": etag})
            assert (answer.status_code, answer.content) == (206, whole.content[part])
            assert answer.headers["content-range"] == f"bytes {part.start}-{part.stop - 1}/{size}"
        beyond = await gateway.get(url, range=f"bytes={size}-")
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
        other = await gateway.get(url, range="bytes=0-3", **{"if-range": '"of another"'})
        assert (other.status_code, other.content) == (200, whole.content)
        head = await gateway.http.head(url)
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(size))
        assert (head.headers["accept-ranges"], head.headers["content-type"]) == ("bytes", whole.headers["content-type"])
        assert (await gateway.get(url, **{"if-none-match": etag})).status_code == 304


async def test_with_redirects_an_address_leads_to_the_bucket_for_a_while(s3: S3Server, tmp_path: Path) -> None:
    async with gateway_on(s3, tmp_path, serve="redirect") as (gateway, _, prefix):
        url = url_of(await gateway.generate(await gateway.new_key(), seed=1, output_format="png"))
        sent_on = await gateway.get(url)
        assert (sent_on.status_code, sent_on.headers["cache-control"]) == (302, "private, max-age=150")
        assert "etag" not in sent_on.headers
        target = sent_on.headers["location"]
        assert target.startswith(f"{s3.url}/pictures/{prefix}/")
        assert "X-Amz-Expires=300" in urlsplit(target).query
        served = await gateway.get(target, range="bytes=0-3")
        assert (served.status_code, served.content) == (206, b"\x89PNG")
        assert served.headers["content-type"] == "image/png"
        headed = await gateway.http.head((await gateway.http.head(url)).headers["location"])
        assert (headed.status_code, headed.headers["content-type"]) == (200, "image/png")


async def test_what_is_purged_is_gone_at_once_and_its_bytes_an_hour_later(s3: S3Server, tmp_path: Path) -> None:
    async with gateway_on(s3, tmp_path) as (gateway, _, prefix):
        url = url_of(await gateway.generate(await gateway.new_key(), seed=1))
        assert (await gateway.admin("POST", "/cache/purge", {"model": "flux-pro"}))["purged"] == 1
        assert (await gateway.get(url)).status_code == 410
        assert len(await kept(s3, prefix)) == 1
        older = sa.update(tables.blobs).values(dead_since_ms=tables.blobs.c.dead_since_ms - 3_700_000)
        await gateway.resources.database.write(lambda conn: conn.execute(older))
        await gateway.resources.cache.apply_retention(images_days=None, requests_days=None)
        assert await kept(s3, prefix) == []


async def test_with_the_bucket_gone_a_paid_picture_is_delivered_and_nothing_new_is_bought(tmp_path: Path) -> None:
    with running_s3() as server:
        async with gateway_on(server, tmp_path, serve="redirect") as (gateway, fake, prefix):
            fake.gate = asyncio.Event()
            key = await gateway.new_key()
            under_way = asyncio.create_task(gateway.generate(key, seed=7))
            await fake.wait_for_calls(1)
            server.kill()
            fake.gate.set()
            url = url_of(await under_way)
            delivered = await gateway.get(url)
            assert delivered.status_code == 200
            assert (await gateway.generate(key, seed=7)).headers["cache-status"] == "darkroom; hit"
            refused = await gateway.generate(key, seed=8)
            assert (refused.status_code, refused.json()["error"]["data"]["charged"]) == (503, "no")
            assert "can't write pictures right now (the bucket can't be reached)" in refused.json()["message"]
            server.start()
            assert (await gateway.generate(key, seed=8)).status_code == 200
            assert len(fake.bill) == 2
            await until(lambda: unspooled(tmp_path / "data" / "spool"))
            assert delivered.headers["etag"].strip('"') in await kept(server, prefix)
            assert (await gateway.http.get(url, follow_redirects=True)).content == delivered.content


def test_who_keeps_pictures_in_files_does_not_pay_for_the_bucket(tmp_path: Path) -> None:
    started = [sys.executable, "-c", _START, str(tmp_path)]
    assert subprocess.run(started, check=True, capture_output=True, text=True).stdout == "False\n"


_START = """
import asyncio, sys
from pathlib import Path
from gateway.config import Settings
from gateway.resources import open_resources

async def start():
    async with open_resources(Settings(data_dir=Path(sys.argv[1]))):
        print("obstore" in sys.modules)

asyncio.run(start())
"""


async def test_the_doctor_says_whether_the_bucket_takes_pictures(s3: S3Server, tmp_path: Path) -> None:
    async def said(**chosen: Any) -> tuple[str, str]:
        store = {**s3.settings, **chosen}
        found = await examine(settings_for(tmp_path, "http://127.0.0.1:9", port=0, image_store=store))
        [check] = [check for check in found if check.name == "image store"]
        return check.status, check.said

    assert await said() == ("ok", f"the bucket pictures at {s3.url} takes pictures")
    status, words = await said(bucket="of-nobody")
    assert (status, words.startswith(f"the bucket of-nobody at {s3.url}: The gateway can't write")) == ("failed", True)
    assert "404 Not Found, NoSuchBucket" in words
