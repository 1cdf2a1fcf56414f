from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.retry_budget import RetryBudget


def further_attempts(budget: RetryBudget) -> int:
    """How many are allowed now, one after the other."""
    count = 0
    while (left := budget.spend()) is not None:
        budget, count = left, count + 1
    return count


def after(requests: int) -> RetryBudget:
    budget = RetryBudget()
    for _ in range(requests):
        budget = budget.deposit()
    return budget


def test_without_a_request_nothing_is_tried_again() -> None:
    assert further_attempts(RetryBudget()) == 0


def test_a_lone_first_call_may_be_tried_again_once() -> None:
    assert further_attempts(after(1)) == 1


def test_a_long_quiet_saves_twenty_attempts_and_no_more() -> None:
    assert further_attempts(after(1_000)) == 20


@given(st.lists(st.booleans()))
def test_attempts_stay_within_a_tenth_more_than_requests(wishes: list[bool]) -> None:
    budget, requests, attempts = RetryBudget(), 0, 0
    for another in wishes:
        if not another:
            budget, requests, attempts = budget.deposit(), requests + 1, attempts + 1
        elif (left := budget.spend()) is not None:
            budget, attempts = left, attempts + 1
        assert 10 * attempts <= 11 * requests + 9
