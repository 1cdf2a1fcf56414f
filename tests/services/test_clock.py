"""The time of a call follows the database's where the two disagree."""

from __future__ import annotations

import pytest

from gateway.services.clock import Clock


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> int:
    """The time of this machine, which stands still."""
    here_ms = 1_800_000_000_000
    monkeypatch.setattr("time.time_ns", lambda: here_ms * 1_000_000)
    return here_ms


def test_a_clock_that_agrees_is_left_alone(here: int):
    clock = Clock()
    clock.correct(here + 900, asked_ms=here)
    assert clock.now_ms() == clock.here_ms() == here


def test_a_database_that_took_long_to_answer_does_not_move_the_clock(here: int):
    clock = Clock()
    clock.correct(here - 29_000, asked_ms=here - 30_000)
    assert clock.now_ms() == here


@pytest.mark.parametrize("off_ms", [-3_600_000, 3_600_000, 90_000])
def test_a_clock_that_is_off_is_corrected_and_put_back(here: int, off_ms: int):
    clock = Clock()
    clock.correct(here - off_ms, asked_ms=here)
    assert clock.now_ms() == here - off_ms
    clock.correct(here, asked_ms=here)
    assert clock.now_ms() == here
