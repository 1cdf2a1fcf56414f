"""What is said of an error underneath a refusal."""

from __future__ import annotations

import asyncio
import socket

import pytest
import sqlalchemy as sa

from gateway.errors import LedgerUnavailable, reason_of
from gateway.storage.database import PostgresOptions, open_database


def refused_for(cause: BaseException) -> LedgerUnavailable:
    refusal = LedgerUnavailable("The gateway's database can't be used right now.", charged="no")
    refusal.__cause__ = cause
    return refusal


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (sa.exc.OperationalError("SELECT 1", {}, OSError(28, "No space left on device")), "No space left on device"),
        (FileNotFoundError(2, "No such file or directory", "data/lock"), "data/lock: No such file or directory"),
        (TimeoutError(), "no answer in time"),
        (ConnectionError(), "ConnectionError"),
        (ValueError("as it is"), "as it is"),
    ],
)
def test_the_words_are_those_of_who_knows(cause: BaseException, said: str) -> None:
    assert reason_of(refused_for(cause)) == said


def test_a_refusal_without_a_cause_says_its_own() -> None:
    assert reason_of(LedgerUnavailable("Gone.", charged="no")) == "Gone."


async def test_a_database_that_does_not_answer_is_told_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = sa.make_url(f"postgresql+asyncpg://u@127.0.0.1:{mute.getsockname()[1]}/x")
        database = open_database(url, PostgresOptions(connect_timeout_s=0.05))
        with pytest.raises(LedgerUnavailable) as refused:
            await asyncio.wait_for(database.read(lambda conn: conn.exec_driver_sql("SELECT 1")), 60)
        assert reason_of(refused.value) == "no answer in time"
        await database.close()
