"""Two books side by side, and an export read line by line."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.domain.books import BookEntry, Comparison, OwnEntry, compare, parse_csv, parse_moment
from gateway.errors import InvalidRequest

PRICE = 65_000
DAY = (1000, 2000)


def own(generation_id: str = "gen_1", cost: int | None = PRICE, sent_ms: int = 1500) -> OwnEntry:
    return OwnEntry(generation_id, "succeeded", sent_ms, cost)


def entry(client_request_id: str | None = "gen_1", cost: int = PRICE, created_ms: int = 1500) -> BookEntry:
    return BookEntry(client_request_id, "req", "inf", created_ms, "succeeded", "flux-pro", cost)


def compared(ours: list[OwnEntry], theirs: list[BookEntry], **options: Any) -> Comparison:
    return compare(ours, theirs, from_ms=DAY[0], to_ms=DAY[1], **({"settled_before_ms": 2000} | options))


def counts(found: Comparison) -> tuple[int, int, int, int, int]:
    return found.matched, len(found.ours_only), len(found.theirs_only), len(found.differing), len(found.open)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([], [], (0, 0, 0, 0, 0)),
        ([own()], [entry()], (1, 0, 0, 0, 0)),
        ([own()], [], (0, 1, 0, 0, 0)),
        ([], [entry()], (0, 0, 1, 0, 0)),
        ([own()], [entry(None)], (0, 1, 1, 0, 0)),
        ([own()], [entry(cost=1)], (0, 0, 0, 1, 0)),
        ([own(cost=0)], [entry()], (0, 0, 0, 1, 0)),
        ([own(cost=0)], [], (1, 0, 0, 0, 0)),
        ([own(cost=0)], [entry(cost=0)], (1, 0, 0, 0, 0)),
        ([own(cost=None)], [entry()], (0, 0, 0, 0, 1)),
        ([own(cost=None)], [], (0, 0, 0, 0, 1)),
        ([], [entry(cost=0)], (0, 0, 0, 0, 0)),
        ([own()], [entry(cost=0), entry()], (1, 0, 0, 0, 0)),
    ],
)
def test_each_call_has_its_place(ours: list[OwnEntry], theirs: list[BookEntry], expected: tuple[int, ...]):
    found = compared(ours, theirs)
    assert counts(found) == expected
    assert found.drift is any(expected[1:4])


def test_pairs_that_straddle_the_edge_match_and_what_lies_outside_is_left_out():
    found = compared([own(sent_ms=1999), own("gen_2", sent_ms=2000)], [entry(created_ms=2001), entry("gen_2")])
    assert counts(found) == (1, 0, 0, 0, 0)
    assert counts(compared([], [entry(created_ms=999), entry(created_ms=2000)])) == (0, 0, 0, 0, 0)


def test_what_is_too_young_for_the_books_is_open_until_they_show_it():
    assert counts(compared([own()], [], settled_before_ms=1500)) == (0, 0, 0, 0, 1)
    assert counts(compared([own()], [entry()], settled_before_ms=1500)) == (1, 0, 0, 0, 0)


def test_totals_are_of_what_was_compared():
    found = compared([own(), own("gen_2", cost=5), own("gen_3")], [entry(), entry("gen_2", cost=7), entry("strange")])
    assert (found.ours_micro_usd, found.theirs_micro_usd) == (2 * PRICE + 5, 2 * PRICE + 7)


def test_an_export_is_read_by_the_names_of_its_columns():
    text = "\ufeffClient_Request_Id,credits,created\ngen_1,130000,2026-11-22T20:00:00Z\n,,1767139200\n"
    first, second = parse_csv(text)
    assert (first.client_request_id, first.cost_micro_usd, first.created_ms) == ("gen_1", PRICE, 1_795_377_600_000)
    assert (second.client_request_id, second.cost_micro_usd, second.created_ms) == (None, 0, 1_767_139_200_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column"),
        ("created,client_request_id\n", "cost_usd"),
        ("created,client_request_id,cost_usd\nyesterday,,1\n", "Line 2"),
        ("created,client_request_id,cost_usd\n1767139200,,much\n", "not an amount"),
        ("created,client_request_id,cost_usd\n1767139200,,-1\n", "not an amount"),
        ("created,client_request_id,cost_usd\n1767139200,,NaN\n", "not an amount"),
        ("created,client_request_id,cost_usd\n1767139200\n\n-5,,1\n", "Line"),
    ],
)
def test_an_export_that_cannot_be_read_says_where(text: str, said: str):
    with pytest.raises(InvalidRequest, match=said):
        parse_csv(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1767139200", 1_767_139_200_000),
        (1767139200.5, 1_767_139_200_500),
        ("1767139200000", 1_767_139_200_000),
        ("2025-12-31T00:00:00", 1_767_139_200_000),
        ("2025-12-31T01:00:00+01:00", 1_767_139_200_000),
    ],
)
def test_times_are_understood_as_providers_write_them(text: str | float, expected: int):
    assert parse_moment(text) == expected
