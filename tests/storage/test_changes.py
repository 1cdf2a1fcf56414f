"""The table of changes, and those who follow it, on both engines."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from gateway.errors import LedgerUnavailable
from gateway.services.changes import ChangeFollower
from gateway.storage import changes, tables
from gateway.storage.database import Database, T, Work, now_ms
from tests.support.waiting import until


class Memory:
    """Notes what it was told to forget."""

    def __init__(self, follower: ChangeFollower) -> None:
        self.forgot: list[tuple[str, str]] = []
        self.forgot_all = 0
        self.heard = asyncio.Event()
        follower.subscribe(self._forget, forget_all=self._forget_all)

    def _forget(self, kind: str, object_id: str) -> None:
        self.forgot.append((kind, object_id))
        self.heard.set()

    def _forget_all(self) -> None:
        self.forgot_all += 1


class FailingDatabase:
    """The real one, out of reach while `down`."""

    def __init__(self, database: Database) -> None:
        self.url = database.url
        self.down = False
        self.check = database.check
        self._database = database

    async def read(self, work: Work[T]) -> T:
        if self.down:
            raise LedgerUnavailable("down")
        return await self._database.read(work)

    write = read

    async def close(self) -> None:
        await self._database.close()


async def insert_change(database: Database, object_id: str, *, row_id: int, age_ms: int) -> None:
    def work(conn: sa.Connection) -> None:
        values = {"id": row_id, "at_ms": now_ms(conn) - age_ms, "kind": "key", "object_id": object_id}
        conn.execute(tables.changes.insert().values(values))

    await database.write(work)


async def test_a_change_is_told_once(database: Database):
    follower = ChangeFollower(database)
    memory = Memory(follower)
    await follower.poll()
    await database.write(lambda conn: changes.record(conn, "key", "key_1"))
    for _ in range(3):
        await follower.poll()
    assert memory.forgot == [("key", "key_1")]


async def test_a_row_that_commits_behind_one_already_read_is_told(database: Database):
    follower = ChangeFollower(database)
    memory = Memory(follower)
    await insert_change(database, "key_second", row_id=12, age_ms=0)
    await follower.poll()
    await insert_change(database, "key_first", row_id=11, age_ms=20_000)
    await follower.poll()
    assert memory.forgot == [("key", "key_second"), ("key", "key_first")]


async def test_changes_made_while_sql_was_out_of_reach_are_told_after(database: Database):
    failing = FailingDatabase(database)
    follower = ChangeFollower(failing)
    memory = Memory(follower)
    await follower.poll()
    failing.down = True
    with pytest.raises(LedgerUnavailable):
        await follower.poll()
    await database.write(lambda conn: changes.record(conn, "user", "user_1"))
    failing.down = False
    await follower.poll()
    assert (memory.forgot, memory.forgot_all) == ([("user", "user_1")], 1)


async def test_after_an_hour_without_a_poll_everything_is_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    follower = ChangeFollower(database)
    memory = Memory(follower)
    await follower.poll()
    follower._last_ms = (follower._last_ms or 0) - 3_601_000
    await follower.poll()
    assert memory.forgot_all == 2


async def test_the_task_outlives_failures(database: Database):
    failing = FailingDatabase(database)
    follower = ChangeFollower(failing, interval_s=0.01)
    memory = Memory(follower)
    await follower.start()
    failing.down = True

    async def is_failing() -> bool:
        return follower._failing

    await until(is_failing)
    await database.write(lambda conn: changes.record(conn, "team", "team_1"))
    failing.down = False
    async with asyncio.timeout(10):
        await memory.heard.wait()
    await follower.stop()
    assert memory.forgot == [("team", "team_1")]


async def test_a_notice_is_told_at_once(database: Database):
    follower = ChangeFollower(database)
    memory = Memory(follower)
    follower.notify("key", "key_1")
    assert memory.forgot == [("key", "key_1")]


async def test_rows_older_than_a_day_are_pruned(database: Database):
    await insert_change(database, "key_old", row_id=1, age_ms=changes.KEPT_MS + 1_000)
    await insert_change(database, "key_new", row_id=2, age_ms=0)
    await database.write(changes.prune)
    left = await database.read(lambda conn: conn.execute(sa.select(tables.changes.c.object_id)).scalars().all())
    assert left == ["key_new"]
