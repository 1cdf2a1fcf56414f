"""What becomes of purchases whose process is gone, on both engines."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.demo.pictures import File, draw
from gateway.domain.answer import AnsweredImage, ProviderAnswer
from gateway.domain.limits import Metric
from gateway.domain.picture import ImageUnusable
from gateway.errors import LedgerUnavailable, ProviderError
from gateway.providers.base import BookEntry, Order, ProviderKey
from gateway.services.answers import AnswerCache
from gateway.services.following import Following
from gateway.services.publication import Publisher
from gateway.services.recovery import NeverSent, Recovery
from gateway.storage import generations, tables
from gateway.storage.database import Database
from gateway.storage.generations import Intent, State
from gateway.storage.images import LocalImageStore
from gateway.storage.response_cache import MemoryAnswers
from gateway.storage.shared_answers import NothingShared
from tests.support.ledger import PRICE, Books, flight, intent, limit

BUDGET = limit(100 * PRICE)
PLACES = limit(100, Metric.CONCURRENCY)
PICTURE = draw(File("a", 64, 64))
NO_CACHE = {"accepts": lambda _entry, _now: False}


class Shop:
    """A provider whose pictures can be had unless `fault` says otherwise; `during` runs at each fetch."""

    name = kind = "aimlapi"

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.during: Callable[[], Awaitable[object]] | None = None
        self.fetched = 0
        self.picture = PICTURE

    async def buy(self, order: Order, key: ProviderKey) -> ProviderAnswer:
        raise NotImplementedError

    async def fetch(self, address: str) -> bytes:  # noqa: ARG002  (one picture, wherever it is asked for)
        self.fetched += 1
        if self.during is not None:
            await self.during()
        if self.fault is not None:
            raise self.fault
        return self.picture

    async def balance(self, key: ProviderKey) -> int | None:
        raise NotImplementedError

    async def read_books(self, key: ProviderKey, *, since_ms: int, until_ms: int) -> list[BookEntry]:
        raise NotImplementedError

    async def close(self) -> None: ...


Sleep = Callable[[float], Awaitable[None]]


async def at_once(_seconds: float) -> None:
    await asyncio.sleep(0)


class World:
    """The process that is gone (`books`) and the one that recovers."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.books = Books(database, owner="gone")
        self.shop = Shop()
        self.active: set[str] = set()
        self.memory = MemoryAnswers(10_000)
        self.images = LocalImageStore(folder / "images")
        self.recovery = self.recovering({"aimlapi": self.shop})
        self.following = Following(self.recovery.look, sleep=at_once)

    def recovering(self, providers: dict[str, Shop], process_id: str = "recovers", sleep: Sleep = at_once) -> Recovery:
        publisher = Publisher(self.database, self.images, ttl_ms=None, sleep=at_once)
        answers = AnswerCache(self.database, self.memory, NothingShared())
        return Recovery(
            self.database, publisher, answers, providers, process_id=process_id, active=self.active, sleep=sleep
        )

    async def orphan(self, status: str, made: Intent | None = None) -> Intent:
        """A generation of the process that is gone, its lease run out."""
        made = await self.books.reserve(made or flight(), BUDGET, PLACES)
        if status != "pending":
            await self.books.send(made.id)
        if status == "answered":
            await self.books.answer(made.id)
        await self.books.expire(made.id)
        return made

    async def usage(self) -> list[tuple[str, int, int | None]]:
        rows = await self.books.rows(tables.usage_log)
        return [(row["outcome"], row["status"], row["cost_micro_usd"]) for row in rows]


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return World(database, tmp_path)


@pytest.mark.parametrize(
    ("status", "ends", "counter", "row"),
    [
        ("pending", "failed", (0, 0), ("failed", 503, 0)),
        ("sent", "unknown", (0, PRICE), ("failed", 504, None)),
        ("answered", "succeeded", (PRICE, 0), ("bought", 200, PRICE)),
    ],
)
async def test_each_orphan_ends_as_its_state_demands(
    world: World, status: str, ends: str, counter: tuple[int, int], row: tuple[str, int, int | None]
):
    made = await world.orphan(status)
    assert await world.recovery.recover() == 1
    assert await world.books.status(made.id) == ends
    assert await world.books.counter(BUDGET) == counter
    assert await world.books.counter(PLACES) == (0, 0)
    assert await world.usage() == [row]
    assert await world.recovery.recover() == 0
    assert (len(world.memory) == 1) is (ends == "succeeded")


async def test_what_another_process_still_works_on_is_left_alone_unless_there_is_none(world: World):
    made = await world.books.sent()
    assert await world.recovery.recover() == 0
    assert await world.books.status(made.id) == "sent"
    await world.recovery.take_over()
    assert await world.books.status(made.id) == "unknown"


async def test_at_a_start_money_is_settled_at_once_and_pictures_follow(world: World):
    """However many there are: more than one page of them."""
    answered = await world.books.answered()
    for _ in range(120):
        await world.books.sent()
    await world.recovery.take_over()
    assert await world.books.status(answered.id) == "answered"
    assert [row["status"] for row in await world.books.rows(tables.generations)].count("unknown") == 120
    running = asyncio.create_task(world.recovery.run())
    while await world.books.status(answered.id) != "succeeded":  # noqa: ASYNC110  (SQL tells nobody)
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_one_who_waited_for_what_was_never_sent_may_buy(world: World):
    made = await world.orphan("pending")
    await world.recovery.recover()
    with pytest.raises(NeverSent):
        await world.following(made.id)


async def test_what_this_process_works_on_is_no_orphan_though_its_lease_ran_out(world: World):
    """After SQL was gone for longer than a lease."""
    made = await Books(world.database, owner="recovers").sent()
    await world.books.expire(made.id)
    world.active.add(made.id)
    assert await world.recovery.recover() == 0
    assert await world.books.status(made.id) == "sent"


async def test_leases_are_renewed_of_what_is_under_way_and_run_out_for_what_was_lost_sight_of(world: World):
    mine = Books(world.database, owner="recovers")
    active, lost = await mine.reserved(BUDGET), await mine.reserved(BUDGET)
    world.active.add(active.id)
    for made in (active, lost):
        await mine.expire(made.id)
    await world.recovery.renew()
    await world.recovery.recover()
    assert [await mine.status(made.id) for made in (active, lost)] == ["pending", "failed"]
    assert await mine.counter(BUDGET) == (0, PRICE)


async def test_a_picture_that_cannot_be_had_now_is_tried_again_later(world: World):
    made = await world.orphan("answered")
    world.shop.fault = ImageUnusable("the host is down", permanent=False)
    await world.recovery.recover()
    row = await world.books.row(made.id)
    assert (row["status"], row["lease_owner"]) == ("answered", None)
    world.shop.fault = None
    await world.books.expire(made.id)
    await world.recovery.recover()
    assert await world.books.status(made.id) == "succeeded"
    assert await world.usage() == [("bought", 200, PRICE)]


async def test_a_picture_that_can_never_be_had_ends_the_generation_with_its_cost(world: World):
    made = await world.orphan("answered")
    world.shop.fault = ImageUnusable("not a picture", permanent=True)
    await world.recovery.recover()
    row = await world.books.row(made.id)
    assert (row["status"], row["cost_micro_usd"]) == ("failed", PRICE)
    assert await world.usage() == [("failed", 502, PRICE)]
    assert await world.books.counter(BUDGET) == (PRICE, 0)


@pytest.mark.parametrize("fault", [None, ImageUnusable("not a picture", permanent=True)], ids=["good", "unusable"])
async def test_the_row_has_the_time_until_the_answer_came_that_is_all_that_is_known(
    world: World, fault: ImageUnusable | None
):
    made = await world.orphan("answered")
    created_ms = (await world.books.row(made.id))["created_ms"]
    await world.books.update(made.id, answered_ms=created_ms + 5000)
    world.shop.fault = fault
    await world.recovery.recover()
    [row] = await world.books.rows(tables.usage_log)
    assert row["latency_us"] == made.usage.latency_us + 5_000_000


async def test_after_an_hour_a_picture_is_given_up_and_its_cost_stays(world: World):
    made = await world.orphan("answered")
    answered_ms = (await world.books.row(made.id))["answered_ms"]
    await world.books.update(made.id, answered_ms=answered_ms - 3_601_000)
    world.shop.fault = ImageUnusable("the host is down", permanent=False)
    await world.recovery.recover()
    assert await world.books.status(made.id) == "failed"
    assert await world.usage() == [("failed", 502, PRICE)]


async def test_a_picture_of_a_provider_no_longer_configured_waits_for_it(world: World):
    made = await world.orphan("answered")
    in_hand = await world.orphan("pending", intent(provider="departed"))
    await world.recovering({}).recover()
    assert await world.books.status(made.id) == "answered"
    assert await world.books.status(in_hand.id) == "failed"
    await world.books.expire(made.id)
    await world.recovery.recover()
    assert await world.books.status(made.id) == "succeeded"


async def test_an_orphan_that_breaks_the_code_does_not_cost_the_others_their_turn(world: World):
    for _ in range(2):
        made = await world.orphan("answered", intent())
        await world.books.update(made.id, expected={"nonsense": True})
    good = await world.orphan("answered", intent())
    released = await world.orphan("pending", intent())
    assert await world.recovery.recover() == 4
    assert await world.books.status(good.id) == "succeeded"
    assert await world.books.status(released.id) == "failed"


async def test_money_is_released_before_pictures_are_fetched(world: World):
    picture = await world.orphan("answered", intent())
    released = await world.orphan("pending", intent())
    seen: list[str] = []

    async def look() -> None:
        seen.append(await world.books.status(released.id))

    world.shop.during = look
    await world.recovery.recover()
    assert (seen, await world.books.status(picture.id)) == (["failed"], "succeeded")


async def test_processes_that_recover_at_once_settle_each_orphan_once(world: World):
    made = [await world.orphan(status, intent()) for status in ("pending", "sent", "answered") * 3]
    others = [world.recovering({"aimlapi": world.shop}, f"process {i}") for i in range(4)]
    counts = await asyncio.gather(*(each.recover() for each in others))
    assert sum(counts) == len(made)
    assert await world.books.counter(BUDGET) == (3 * PRICE, 3 * PRICE)
    assert len(await world.usage()) == 9


async def test_an_answer_of_fewer_pictures_than_asked_is_published_and_not_stored(world: World):
    made = flight(expected={"images": 2, "extension": "jpg", "size": (64, 64)})
    await world.orphan("answered", made)
    await world.recovery.recover()
    assert await world.books.status(made.id) == "succeeded"
    assert await world.books.rows(tables.cache_entries) == []


async def test_a_picture_in_the_answer_itself_is_published(world: World):
    made = await world.books.sent()
    answer = ProviderAnswer(images=(AnsweredImage(b64=base64.b64encode(PICTURE).decode()),))
    await world.books.answer(made.id, answer=answer)
    await world.books.expire(made.id)
    await world.recovering({}).recover()
    assert await world.books.status(made.id) == "succeeded"


# -- those who wait for a generation of another process ----------------------------------------------------------------


async def test_a_caller_takes_over_a_picture_that_is_paid_for(world: World):
    made = await world.orphan("answered")
    answers = await asyncio.gather(*(world.following(made.id) for _ in range(5)))
    assert {answer.generation_id for answer in answers} == {made.id}
    assert world.shop.fetched == 1


@pytest.mark.parametrize("end", ["fail", "lose"])
async def test_a_caller_is_told_when_what_it_waited_for_ended_without_a_picture(world: World, end: str):
    made = await world.books.reserve(flight())
    await world.books.send(made.id)
    following = asyncio.create_task(world.following(made.id))
    await getattr(world.books, end)(made)
    with pytest.raises(ProviderError, match="no picture"):
        await following


async def test_an_answer_that_the_cache_does_not_keep_reaches_who_waits_for_it(world: World):
    made = await world.books.reserve(flight())
    await world.books.send(made.id)
    await world.books.answer(made.id)
    await world.books.publish(made, storable=False)
    assert (await world.following(made.id)).generation_id == made.id


async def test_nobody_waits_for_what_is_not_there(world: World):
    with pytest.raises(NeverSent):
        await world.following("gen_none")


async def test_a_caller_that_leaves_while_fetching_leaves_the_picture_to_recovery(world: World):
    made = await world.orphan("answered")
    fetching = asyncio.Event()

    async def hang() -> None:
        fetching.set()
        await asyncio.Event().wait()

    world.shop.during = hang
    following = asyncio.create_task(world.following(made.id))
    await fetching.wait()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    world.shop.during = None
    await world.books.expire(made.id)
    await world.recovery.renew()
    assert await world.recovery.recover() == 1
    assert await world.books.status(made.id) == "succeeded"


async def test_a_caller_that_takes_over_a_picture_which_fails_is_told_that_it_is_paid_for(world: World):
    made = await world.orphan("answered")
    world.shop.fault = ImageUnusable("the host is down", permanent=False)
    with pytest.raises(ProviderError) as told:
        await world.following(made.id)
    assert (told.value.charged, told.value.should_retry) == ("yes", False)


async def test_the_task_renews_and_recovers_again_and_again_and_ends_when_told(world: World):
    lease_ran_out = await Books(world.database, owner="recovers").sent()
    world.active.add(lease_ran_out.id)
    orphan = await world.orphan("pending", intent())
    rounds, more = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def sleep(_seconds: float) -> None:
        rounds.release()
        await more.acquire()

    running = asyncio.create_task(world.recovering({}, sleep=sleep).run())
    async with asyncio.timeout(30):
        for _ in range(2):
            await rounds.acquire()
            await rounds.acquire()
            assert await world.books.status(orphan.id) == "failed"
            assert (await world.books.row(lease_ran_out.id))["lease_until_ms"] > 0
            orphan = await world.orphan("pending", intent())
            await world.books.expire(lease_ran_out.id)
            more.release()
            more.release()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()


async def test_sql_gone_in_the_middle_leaves_the_rest_for_later(world: World):
    first = await world.orphan("answered", intent())
    world.shop.fault = LedgerUnavailable("down")
    await world.recovery.recover()
    assert await world.books.status(first.id) == "answered"
    found = await world.database.read(lambda conn: generations.state_of(conn, first.id))
    assert found == State("key_1", "answered", None, True, None, is_free=True)


async def test_bytes_that_turn_out_to_be_no_picture_are_not_kept(world: World):
    made = await world.orphan("answered")
    world.shop.picture = PICTURE[:-40]
    await world.recovery.recover()
    assert await world.books.status(made.id) == "failed"
    assert (await world.books.rows(tables.blobs), world.images.names()) == ([], [])
