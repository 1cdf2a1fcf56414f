"""What the cache may do, from the request alone."""

from __future__ import annotations

import pytest

from gateway.domain.cache_policy import Directives, parse_directives, plan


@pytest.mark.parametrize(
    ("header", "directives"),
    [
        (None, Directives()),
        ("", Directives()),
        ("no-cache", Directives(no_cache=True)),
        ("No-Store , x=1", Directives(no_store=True)),
        ("only-if-cached,max-age=60", Directives(only_if_cached=True, max_age_s=60)),
        ('max-age="60"', Directives(max_age_s=60)),
        ("max-age=soon", Directives(max_age_s=0)),
        ("max-age=-1", Directives(max_age_s=0)),
        ("max-age=99999999999999999999", Directives(max_age_s=2**31)),
        ("max-age=" + "9" * 5000, Directives(max_age_s=2**31)),
        ('ext="a, no-store", no-cache', Directives(no_cache=True)),
    ],
)
def test_a_cache_control_header_is_read_leniently(header: str | None, directives: Directives) -> None:
    assert parse_directives(header) == directives


@pytest.mark.parametrize(
    ("deterministic", "seeded", "directives", "readable", "storable", "bypass"),
    [
        (True, True, Directives(), True, True, None),
        (True, False, Directives(), False, False, "no-seed"),
        (False, True, Directives(), False, False, "not-deterministic"),
        (True, True, Directives(no_store=True), False, False, "no-store"),
        (True, True, Directives(no_cache=True), False, True, None),
    ],
)
def test_only_seeded_calls_to_deterministic_models_are_cached(
    deterministic: bool, seeded: bool, directives: Directives, readable: bool, storable: bool, bypass: str | None
) -> None:
    made = plan(deterministic=deterministic, seeded=seeded, directives=directives)
    assert (made.readable, made.storable, made.bypass) == (readable, storable, bypass)


def test_an_entry_answers_until_it_expires_or_is_older_than_asked_for() -> None:
    asked = plan(deterministic=True, seeded=True, directives=Directives(max_age_s=10))
    assert asked.accepts(created_ms=0, expires_ms=None, now_ms=10_000)
    assert not asked.accepts(created_ms=0, expires_ms=None, now_ms=10_001)
    assert not asked.accepts(created_ms=0, expires_ms=5_000, now_ms=5_000)
