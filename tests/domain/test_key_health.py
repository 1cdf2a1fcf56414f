from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.key_health import FAULTS_TO_OPEN, KeyHealth, KeyStatus
from gateway.domain.outcome import KeyEffect

FAULTS: list[KeyEffect] = ["fault"] * FAULTS_TO_OPEN
EFFECTS: list[KeyEffect] = ["sound", "cool", "eject", "await_credits", "fault"]


def after(*effects: KeyEffect, now_s: float = 0.0) -> KeyHealth:
    health = KeyHealth()
    for effect in effects:
        health = health.after(effect, now_s=now_s, reason="seen")
    return health


def opened(times: int = 1) -> tuple[KeyHealth, float]:
    """A circuit that has just opened for the `times`th time in a row, and the time of day."""
    health, now_s = after(*FAULTS), 0.0
    for _ in range(times - 1):
        now_s = health.until_s or 0.0
        health = health.after("fault", now_s=now_s)
    return health, now_s


def test_a_new_key_is_healthy() -> None:
    assert KeyHealth().status_at(0) is KeyStatus.HEALTHY


@pytest.mark.parametrize(("asked", "until_s"), [(None, 101), (0.0, 101), (7.5, 107.5), (86_400.0, 3_700)])
def test_a_rate_limit_cools_for_as_long_as_asked_but_an_hour_at_most(asked: float | None, until_s: float) -> None:
    health = KeyHealth().after("cool", now_s=100, retry_after_s=asked)
    assert (health.status_at(100), health.until_s) == (KeyStatus.COOLING, until_s)
    assert health.status_at(until_s) is KeyStatus.HEALTHY


def test_cool_downs_in_a_row_double_up_to_a_minute() -> None:
    health, now_s, lengths = KeyHealth(), 0.0, []
    for _ in range(8):
        health = health.after("cool", now_s=now_s)
        lengths.append((health.until_s or 0) - now_s)
        now_s = health.until_s or 0
    assert lengths == [1, 2, 4, 8, 16, 32, 60, 60]
    assert health.after("sound", now_s=now_s).after("cool", now_s=now_s).until_s == now_s + 1


def test_calls_refused_together_cool_once() -> None:
    first = after("cool")
    assert first.after("cool", now_s=0.5).until_s == first.until_s == 1
    assert first.after("cool", now_s=0.5, retry_after_s=30).until_s == 30.5
    assert first.after("sound", now_s=0.5).status_at(0.5) is KeyStatus.COOLING


def test_faults_in_a_row_open_the_circuit() -> None:
    assert after(*FAULTS[1:]).status_at(0) is KeyStatus.HEALTHY
    assert after(*FAULTS[1:], "sound", "fault").status_at(0) is KeyStatus.HEALTHY
    health = after(*FAULTS)
    assert (health.status_at(9.9), health.until_s, health.reason) == (KeyStatus.CIRCUIT_OPEN, 10, "seen")
    assert health.status_at(10) is KeyStatus.HALF_OPEN


def test_a_circuit_that_opens_again_rests_for_twice_as_long_up_to_two_minutes() -> None:
    lengths = []
    for times in range(1, 7):
        health, now_s = opened(times)
        lengths.append((health.until_s or 0) - now_s)
    assert lengths == [10, 20, 40, 80, 120, 120]


def test_a_good_probe_forgets_the_past() -> None:
    health, _ = opened(3)
    assert health.after("sound", now_s=health.until_s or 0) == KeyHealth()


def test_an_open_circuit_waits_for_its_probe() -> None:
    health, now_s = opened()
    assert all(health.after(effect, now_s=now_s + 1) == health for effect in ("sound", "cool", "fault"))


def test_a_long_cool_down_is_not_cut_short_by_faults() -> None:
    health = KeyHealth().after("cool", now_s=0, retry_after_s=600)
    for _ in range(FAULTS_TO_OPEN):
        health = health.after("fault", now_s=1)
    assert (health.status_at(1), health.until_s) == (KeyStatus.CIRCUIT_OPEN, 600)


@given(st.lists(st.sampled_from(EFFECTS)), st.lists(st.sampled_from(EFFECTS)))
def test_an_ejected_key_stays_so_whatever_comes_until_it_is_reinstated(
    before: list[KeyEffect], later: list[KeyEffect]
) -> None:
    health = after(*before, "eject", *later, now_s=1e6)
    assert health.status_at(1e9) is KeyStatus.EJECTED
    assert health.credits_back() == health
    assert health.reinstated() == KeyHealth()


@given(st.lists(st.sampled_from(["sound", "cool", "fault", "await_credits"])))
def test_a_key_out_of_credits_stays_so_until_they_are_back(later: list[KeyEffect]) -> None:
    health = after("await_credits", *later)
    assert health.status_at(1e9) is KeyStatus.OUT_OF_CREDITS
    assert health.credits_back() == KeyHealth()
    assert health.after("eject", now_s=0).status_at(0) is KeyStatus.EJECTED


@given(st.lists(st.tuples(st.sampled_from(EFFECTS[:2] + EFFECTS[4:]), st.floats(0, 1000)), max_size=60))
def test_what_ends_by_itself_always_ends(outcomes: list[tuple[KeyEffect, float]]) -> None:
    health, now_s = KeyHealth(), 0.0
    for effect, pause_s in outcomes:
        now_s += pause_s
        health = health.after(effect, now_s=now_s)
        assert health.until_s is None or health.until_s <= now_s + 120
    assert health.status_at(now_s + 121) in {KeyStatus.HEALTHY, KeyStatus.HALF_OPEN}
