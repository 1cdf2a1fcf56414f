"""Work that blocks is done once, in few threads, and whoever asked hears of it."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from gateway.threads import NoThread, Threads, to_thread
from tests.support.waiting import until_now


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads(2, name="of-the-tests")
    yield made
    made.close()


def ours() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("of-the-tests"))


async def test_what_work_returns_or_raises_is_the_askers(threads: Threads):
    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads.run(next, iter(()))
    assert await to_thread(threading.current_thread) is not threading.current_thread()


async def test_threads_are_made_when_all_others_are_at_work(threads: Threads):
    assert ours() == []
    for _ in range(3):
        await threads.run(len, "")
        until_now(lambda: threads._open == 0)
    assert ours() == ["of-the-tests-0"]
    meeting = threading.Barrier(3)
    both = [asyncio.create_task(threads.run(meeting.wait)) for _ in range(2)]
    third = asyncio.create_task(threads.run(len, "abc"))
    mine = await asyncio.to_thread(meeting.wait)
    assert sorted([mine, *await asyncio.gather(*both)]) == [0, 1, 2]
    assert await third == 3
    assert ours() == ["of-the-tests-0", "of-the-tests-1"]


async def test_a_thread_that_cannot_be_started_is_an_error_only_when_there_is_no_other(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
):
    def none_left(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", none_left)
        for _ in range(2):
            with pytest.raises(NoThread, match="can't start new thread"):
                await threads.run(len, "")
    assert await threads.run(len, "ab") == 2
    until_now(lambda: threads._open == 0)
    gate = threading.Event()
    first = asyncio.create_task(threads.run(gate.wait))
    await asyncio.sleep(0)
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", none_left)
        second = asyncio.create_task(threads.run(len, "abc"))
        await asyncio.sleep(0)
    gate.set()
    assert (await first, await second, ours()) == (True, 3, ["of-the-tests-0"])


async def test_work_whose_asker_left_before_a_thread_was_free_is_not_done():
    threads, gate, done = Threads(1, name="of-the-tests"), threading.Event(), list[str]()
    try:
        first = asyncio.create_task(threads.run(gate.wait))
        second = asyncio.create_task(threads.run(done.append, "second"))
        await asyncio.sleep(0)
        second.cancel()
        third = asyncio.create_task(threads.run(done.append, "third"))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(first, third)
        assert done == ["third"]
    finally:
        threads.close()


async def test_to_leave_during_the_work_harms_nobody(threads: Threads):
    begun, gate = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return gate.wait()

    task = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    assert await threads.run(len, "abc") == 3


async def test_closing_waits_for_what_was_handed_in_and_takes_no_more():
    threads, done = Threads(1, name="of-the-tests"), list[int]()
    tasks = [asyncio.create_task(threads.run(done.append, number)) for number in range(50)]
    await asyncio.sleep(0)
    threads.close()
    assert done == list(range(50))
    await asyncio.gather(*tasks)
    with pytest.raises(RuntimeError, match="of-the-tests are closed"):
        await threads.run(len, "")
    assert ours() == []


def test_a_loop_that_ended_meanwhile_is_not_told(threads: Threads):
    begun, gate, done = threading.Event(), threading.Event(), list[str]()

    def work() -> None:
        begun.set()
        gate.wait()
        done.append("whole")

    async def leave() -> None:
        asyncio.create_task(threads.run(work))  # noqa: RUF006  (it is left on purpose)
        await asyncio.to_thread(begun.wait)

    asyncio.run(leave())
    gate.set()
    assert until_now(lambda: done) == ["whole"]
    assert asyncio.run(threads.run(len, "abc")) == 3


async def test_a_thread_that_waits_holds_nothing_of_the_last_work(threads: Threads):
    class Picture:
        pass

    picture = Picture()
    held = weakref.ref(picture)
    await threads.run(id, picture)
    del picture
    until_now(lambda: gc.collect() >= 0 and held() is None)
