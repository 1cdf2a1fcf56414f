"""F16: a disk that can't be written. Nothing is bought, the refusal says why, and all works again when it can."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx

from gateway.demo.provider import FakeProvider, running
from tests.e2e.test_crashes import every_generation
from tests.support.damage import damage_table
from tests.support.gateway import Gateway, GatewayProcess
from tests.support.http_client import open_client


@asynccontextmanager
async def process_without_log(
    tmp_path: Path, fake: FakeProvider, *, stderr: int = subprocess.DEVNULL
) -> AsyncIterator[tuple[GatewayProcess, Gateway]]:
    async with running(fake) as provider_url, open_client(connect_timeout_s=30) as http:
        process = GatewayProcess(tmp_path / "data", provider_url, tmp_path / "log")
        await process.start(stderr=stderr)
        try:
            yield process, Gateway(process.base_url, http)
        finally:
            process.kill()


@contextmanager
def full_disk(process: GatewayProcess) -> Iterator[None]:
    """Every write to a file fails (EFBIG); sockets and pipes go on."""
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, hard))
    yield
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))


def assert_refused_before_buying(answer: httpx.Response) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["data"]["charged"]) == (503, "ledger_unavailable", "no")
    assert int(answer.headers["retry-after"]) > 0


async def test_with_the_disk_full_nothing_is_bought_or_served_unrecorded(tmp_path: Path) -> None:
    fake = FakeProvider()
    async with process_without_log(tmp_path, fake) as (process, gateway):
        key = await gateway.new_key(limits=[{"metric": "cost_usd", "window": "month", "amount": "1000"}])
        assert (await gateway.generate(key, seed=1)).status_code == 200
        with full_disk(process):
            for seed in (2, 3, None):
                assert_refused_before_buying(await gateway.generate(key, seed=seed))
            assert_refused_before_buying(await gateway.generate(key, seed=1))
            assert (await gateway.get("/livez")).status_code == 200
            ready = await gateway.get("/readyz")
            assert (ready.status_code, "can't record calls right now" in ready.text) == (503, True)
        assert (await gateway.get("/readyz")).json() == {"status": "ok"}
        assert fake.calls == 1
        for seed in (1, 2, None):
            assert (await gateway.generate(key, seed=seed)).status_code == 200
        rows = await every_generation(gateway)
        assert [row["status"] for row in rows] == ["succeeded"] * 3
        total = await gateway.usage()
        assert (total["hits"], total["cost_usd"]) == (1, "0.195")


async def test_a_broken_picture_folder_refuses_before_buying(tmp_path: Path) -> None:
    fake = FakeProvider()
    async with process_without_log(tmp_path, fake) as (_, gateway):
        key = await gateway.new_key()
        assert (await gateway.generate(key, seed=1)).status_code == 200
        images = tmp_path / "data" / "images"
        images.rename(tmp_path / "aside")
        images.write_bytes(b"not a folder")
        refused = await gateway.generate(key, seed=2)
        assert_refused_before_buying(refused)
        assert "can't write pictures" in refused.json()["message"]
        url = (await gateway.generate(key, seed=1)).json()["data"][0]["url"]
        unreadable = await gateway.get(url)
        assert (unreadable.status_code, unreadable.headers["retry-after"]) == (503, "30")
        assert (await gateway.generate(key, seed=1, response_format="b64_json")).status_code == 503
        images.unlink()
        (tmp_path / "aside").rename(images)
        assert (await gateway.generate(key, seed=2)).status_code == 200
        assert (await gateway.get(url)).status_code == 200
        assert fake.calls == 2


async def test_with_the_database_file_removed_nothing_is_bought_until_it_is_back(tmp_path: Path) -> None:
    fake = FakeProvider()
    async with process_without_log(tmp_path, fake) as (_, gateway):
        key = await gateway.new_key()
        assert (await gateway.generate(key, seed=1)).status_code == 200
        file, aside = tmp_path / "data" / "darkroom.db", tmp_path / "aside.db"
        file.rename(aside)
        assert_refused_before_buying(await gateway.generate(key, seed=2))
        assert (await gateway.generate(key, seed=1)).headers["cache-status"] == "darkroom; hit"
        assert (await gateway.get("/readyz")).json() == {"status": "degraded"}
        aside.rename(file)
        assert (await gateway.generate(key, seed=2)).status_code == 200
        assert (await gateway.get("/readyz")).json() == {"status": "ok"}
        assert fake.calls == 2


async def test_with_part_of_the_database_damaged_one_call_finds_out_and_no_other_buys(tmp_path: Path) -> None:
    """Money could be reserved and settled, and no picture be kept: each call was bought for nothing."""
    fake = FakeProvider()
    async with process_without_log(tmp_path, fake) as (process, gateway):
        key = await gateway.new_key()
        process.stop()
        damage_table(tmp_path / "data" / "darkroom.db", "images")
        await process.start(stderr=subprocess.DEVNULL)
        found_out = (await gateway.generate(key, seed=1)).json()
        assert found_out["error"]["data"]["charged"] == "yes"
        for seed in (2, 3, None):
            assert_refused_before_buying(await gateway.generate(key, seed=seed))
        assert (await gateway.get("/readyz")).json() == {"status": "degraded"}
        assert fake.calls == 1


async def test_a_log_that_nobody_reads_breaks_no_call(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    fake = FakeProvider()
    async with process_without_log(tmp_path, fake, stderr=writing) as (_, gateway):
        os.close(writing)
        os.close(reading)
        key = await gateway.new_key()
        for _ in range(3):
            assert (await gateway.generate(key, seed=1)).status_code == 200
            assert (await gateway.generate(key)).status_code == 200
        assert len(fake.bill) == 4
        assert (await gateway.usage())["cost_usd"] == "0.26"
