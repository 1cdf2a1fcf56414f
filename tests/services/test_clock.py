"""The time of a call follows the database's where the two disagree."""

from __future__ import annotations

import pytest

from gateway.services.clock import Clock

HERE_MS = 1_800_000_000_000


@pytest.fixture
def clock() -> Clock:
    """On a machine whose time stands still."""
    return Clock(lambda: HERE_MS * 1_000_000)


def test_a_clock_that_agrees_is_left_alone(clock: Clock):
    clock.correct(HERE_MS + 900, asked_ms=HERE_MS)
    assert clock.now_ms() == clock.here_ms() == HERE_MS


def test_a_database_that_took_long_to_answer_does_not_move_the_clock(clock: Clock):
    clock.correct(HERE_MS - 29_000, asked_ms=HERE_MS - 30_000)
    assert clock.now_ms() == HERE_MS


@pytest.mark.parametrize("off_ms", [-3_600_000, 3_600_000, 90_000])
def test_a_clock_that_is_off_is_corrected_and_put_back(clock: Clock, off_ms: int):
    clock.correct(HERE_MS - off_ms, asked_ms=HERE_MS)
    assert clock.now_ms() == HERE_MS - off_ms
    clock.correct(HERE_MS, asked_ms=HERE_MS)
    assert clock.now_ms() == HERE_MS
