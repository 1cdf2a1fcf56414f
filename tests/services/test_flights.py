"""Flights: who shares a purchase, and when a flight is over."""

from __future__ import annotations

import asyncio

import pytest

from gateway.services.flights import Flights
from gateway.services.purchases import Purchase
from tests.support.ledger import intent


def purchase() -> Purchase:
    loop = asyncio.get_running_loop()
    made = Purchase(intent(), loop.create_future(), loop.create_future())
    made.outcome.add_done_callback(lambda outcome: outcome.cancelled() or outcome.exception())
    return made


async def callbacks() -> None:
    """Lets what a future told its listeners arrive."""
    await asyncio.sleep(0)


async def test_all_who_board_at_one_time_share_a_flight_and_others_have_their_own():
    flights = Flights()
    async with flights.board("a") as first, flights.board("a") as second, flights.board("b") as other:
        assert first is second is not other
        assert len(flights) == 2
    assert len(flights) == 0


async def test_a_flight_lasts_as_long_as_its_purchase_though_everybody_left():
    flights, bought = Flights(), purchase()
    async with flights.board("a") as flight:
        flights.depart("a", flight, bought)
    async with flights.board("a") as later:
        assert later.purchase is bought
    bought.outcome.cancel()
    await callbacks()
    assert len(flights) == 0


@pytest.mark.parametrize("end", ["cancelled", "failed", "done"])
async def test_a_flight_is_over_with_its_purchase_however_it_ends(end: str):
    flights, bought = Flights(), purchase()
    async with flights.board("a") as flight:
        flights.depart("a", flight, bought)
        if end == "cancelled":
            bought.outcome.cancel()
        elif end == "failed":
            bought.outcome.set_exception(RuntimeError("no picture"))
        else:
            bought.outcome.set_result(None)  # type: ignore[arg-type]
        await callbacks()
        async with flights.board("a") as following:
            assert following is not flight
            assert following.purchase is None
    assert len(flights) == 0


async def test_an_old_flight_that_ends_does_not_end_the_one_that_followed():
    flights, bought, following = Flights(), purchase(), purchase()
    async with flights.board("a") as old:
        flights.depart("a", old, bought)
        bought.outcome.cancel()
        await callbacks()
        async with flights.board("a") as new:
            flights.depart("a", new, following)
    assert len(flights) == 1
    following.outcome.cancel()
    await callbacks()
    assert len(flights) == 0


async def test_turns_come_in_order_and_the_first_who_may_buy_ends_the_queue():
    flights, bought = Flights(), purchase()
    tried: list[int] = []

    async def call(number: int) -> Purchase | None:
        async with flights.board("a") as flight:
            async with flight.turn:
                if flight.purchase is None:
                    tried.append(number)
                    await asyncio.sleep(0)
                    if number < 2:
                        return None  # refused: its own affair
                    flights.depart("a", flight, bought)
            return flight.purchase

    assert await asyncio.gather(*(call(number) for number in range(10))) == [None, None, *[bought] * 8]
    assert tried == [0, 1, 2]
    bought.outcome.cancel()


async def test_one_who_leaves_in_the_middle_of_its_turn_gives_it_to_the_next():
    flights, entered = Flights(), asyncio.Event()

    async def leaver() -> None:
        async with flights.board("a") as flight, flight.turn:
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(leaver())
    await entered.wait()
    async with flights.board("a") as flight:
        task.cancel()
        async with asyncio.timeout(5), flight.turn:
            assert flight.purchase is None
    await asyncio.gather(task, return_exceptions=True)
    assert len(flights) == 0
