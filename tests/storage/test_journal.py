"""The journal: rows on disk before their answers leave, in SQL soon after, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.domain.usage_row import UsageRow
from gateway.errors import LedgerUnavailable, StorageFailed
from gateway.storage import journal as journal_module
from gateway.storage import tables, usage_log
from gateway.storage.database import Database
from gateway.storage.journal import Journal
from tests.support.ledger import usage_row


class Desk:
    """Where rows are delivered. `closed` refuses; `gate`, if set, is waited for; `during` runs at each delivery."""

    def __init__(self) -> None:
        self.rows: list[UsageRow] = []
        self.closed = False
        self.failure: Exception = LedgerUnavailable("down")
        self.during: Callable[[], None] = lambda: None
        self.arrived = asyncio.Event()

    async def deliver(self, rows: Sequence[UsageRow]) -> None:
        self.arrived.set()
        if self.closed:
            raise self.failure
        await asyncio.sleep(0)
        self.during()
        self.rows.extend(rows)

    def set_function(self, f: Callable[[], float]) -> None:
        self._lag = f

    @property
    def lag(self) -> float:
        return self._lag()

    @property
    def numbers(self) -> list[int]:
        return [row.images for row in self.rows]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def opened(folder: Path, desk: Desk) -> Journal:
    return Journal(folder / "journal", desk.deliver, lag=desk)


def files(folder: Path, pattern: str = "*") -> list[str]:
    return sorted(path.name for path in (folder / "journal").glob(pattern))


def write_all(journal: Journal, numbers: range, **fields: Any) -> None:
    for n in numbers:
        journal.append(usage_row(images=n, **fields))


async def test_rows_are_delivered_in_their_order_and_the_file_goes(tmp_path: Path, desk: Desk):
    journal = opened(tmp_path, desk)
    write_all(journal, range(10))
    assert desk.lag == 10
    await journal.close()
    assert desk.numbers == list(range(10))
    assert (desk.lag, files(tmp_path)) == (0, [])


async def test_rows_survive_a_process_that_never_closed(tmp_path: Path, desk: Desk):
    for start in (0, 5):
        write_all(opened(tmp_path, desk), range(start, start + 5))
    later = opened(tmp_path, desk)
    write_all(later, range(10, 12))
    assert await later.recover() == 10
    await later.flush()
    assert desk.numbers == list(range(12))
    assert len(files(tmp_path)) == 1


async def test_rows_delivered_before_a_crash_are_in_sql_once_after_it(tmp_path: Path, database: Database, desk: Desk):
    async def deliver(rows: Sequence[UsageRow]) -> None:
        await database.write(lambda conn: usage_log.add(conn, rows))

    first = Journal(tmp_path / "journal", deliver, lag=desk)
    for _ in range(20):
        first.append(usage_row())
    await first.flush()
    second = Journal(tmp_path / "journal", deliver, lag=desk)
    assert await second.recover() == 20
    await second.close()
    for column, total in ((tables.usage_log.c.id, sa.func.count), (tables.usage_hourly.c.requests, sa.func.sum)):
        found = await database.read(partial(scalar, sa.select(total(column))))
        assert found == 20


def scalar(query: sa.Select[Any], conn: sa.Connection) -> Any:
    return conn.execute(query).scalar_one()


async def test_a_torn_last_line_is_left_out(tmp_path: Path, desk: Desk):
    write_all(opened(tmp_path, desk), range(3))
    [name] = files(tmp_path)
    with (tmp_path / "journal" / name).open("ab") as file:
        file.write(b'[1767261600000,"req_half')
    assert await opened(tmp_path, desk).recover() == 3
    assert desk.numbers == [0, 1, 2]
    assert files(tmp_path) == ["00000002.jsonl"]


async def test_a_damaged_file_gives_what_it_can_and_is_kept(tmp_path: Path, desk: Desk):
    write_all(opened(tmp_path, desk), range(3))
    path = tmp_path / "journal" / "00000001.jsonl"
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"\x00" * (len(second) - 1) + b"\n" + third)
    await opened(tmp_path, desk).recover()
    assert desk.numbers == [0, 2]
    assert files(tmp_path, "*.damaged") == ["00000001.damaged"]


async def test_numbers_of_damaged_files_are_not_used_again(tmp_path: Path, desk: Desk):
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "00000007.damaged").write_bytes(b"what could be saved")
    opened(tmp_path, desk)
    assert files(tmp_path, "*.jsonl") == ["00000008.jsonl"]


async def test_a_failed_recovery_keeps_the_files_for_the_next(tmp_path: Path, desk: Desk):
    write_all(opened(tmp_path, desk), range(3))
    desk.closed = True
    with pytest.raises(LedgerUnavailable):
        await opened(tmp_path, desk).recover()
    desk.closed = False
    assert await opened(tmp_path, desk).recover() == 3


@pytest.mark.parametrize("failure", [LedgerUnavailable("down"), RuntimeError("a defect")])
async def test_a_delivery_that_fails_is_repeated_in_order_and_nothing_is_lost(
    tmp_path: Path, desk: Desk, failure: Exception, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(journal_module, "_PAUSE_AFTER_FAILURE_S", 0.001)
    journal = opened(tmp_path, desk)
    desk.closed, desk.failure = True, failure
    write_all(journal, range(5))
    running = asyncio.create_task(journal.run())
    await desk.arrived.wait()
    write_all(journal, range(5, 10))
    desk.closed = False
    async with asyncio.timeout(10):
        while len(desk.rows) < 10:
            desk.arrived.clear()
            await desk.arrived.wait()
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert desk.numbers == list(range(10))


async def test_a_flush_ends_though_rows_never_stop_coming(tmp_path: Path, desk: Desk):
    journal = opened(tmp_path, desk)
    desk.during = lambda: journal.append(usage_row(images=-1))
    write_all(journal, range(3))
    await journal.flush()
    assert desk.numbers == [0, 1, 2]
    await journal.flush()
    assert desk.numbers == [0, 1, 2, -1]


async def test_rows_that_come_during_the_last_flush_are_kept_for_the_next_start(tmp_path: Path, desk: Desk):
    journal = opened(tmp_path, desk)
    desk.during = lambda: journal.append(usage_row(images=99))
    journal.append(usage_row(images=0))
    await journal.close()
    desk.during = lambda: None
    await opened(tmp_path, desk).recover()
    assert 99 in desk.numbers


async def test_full_files_give_way_to_the_next_and_are_deleted_once_delivered(tmp_path: Path, desk: Desk):
    journal = opened(tmp_path, desk)
    desk.closed = True
    write_all(journal, range(900), tags={"padding": "x" * 20_000})
    assert len(files(tmp_path)) > 3
    with pytest.raises(LedgerUnavailable):
        await journal.flush()
    desk.closed = False
    await journal.flush()
    assert desk.numbers == list(range(900))
    assert len(files(tmp_path)) == 1
    await journal.close()
    assert files(tmp_path) == []


async def test_a_row_longer_than_a_batch_is_delivered(tmp_path: Path, desk: Desk):
    journal = opened(tmp_path, desk)
    write_all(journal, range(3), tags={"padding": "x" * 700_000})
    await journal.close()
    assert desk.numbers == [0, 1, 2]


async def test_a_closed_journal_takes_no_row(tmp_path: Path, desk: Desk):
    journal = opened(tmp_path, desk)
    await journal.close()
    with pytest.raises(StorageFailed):
        journal.append(usage_row(images=1))
    await journal.flush()


async def test_two_flushes_at_once_deliver_each_row_once(tmp_path: Path, desk: Desk):
    journal = opened(tmp_path, desk)
    write_all(journal, range(5000), tags={"padding": "x" * 300})
    await asyncio.gather(*(journal.flush() for _ in range(5)))
    assert desk.numbers == list(range(5000))


FULL_DISK = """
import resource, signal, sys, json
from pathlib import Path
from gateway.errors import StorageFailed
from gateway.storage.journal import Journal
from tests.support.ledger import usage_row

class Gauge:
    def set_function(self, f): ...

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
journal = Journal(Path(sys.argv[1]), None, lag=Gauge())
said = []
for n, size in enumerate([300, 300, 500, 900, 200, 300]):
    try:
        journal.append(usage_row(images=n, tags={"padding": "x" * size}))
        said.append("kept")
    except StorageFailed as error:
        said.append(error.code)
print(json.dumps(said))
"""


def append_on_a_full_disk(folder: Path) -> list[str]:
    """A limit on the size of files gives the same short writes and errors as a full disk."""
    command = [sys.executable, "-c", FULL_DISK, str(folder / "journal")]
    said: list[str] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return said


async def test_a_row_that_does_not_fit_on_the_disk_is_refused_and_leaves_nothing(tmp_path: Path, desk: Desk):
    refused = "ledger_unavailable"
    assert append_on_a_full_disk(tmp_path) == ["kept", "kept", refused, refused, "kept", refused]
    assert await opened(tmp_path, desk).recover() == 3
    assert desk.numbers == [0, 1, 4]
    assert files(tmp_path, "*.damaged") == []
