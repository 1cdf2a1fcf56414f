"""How a caller wants to be answered."""

from __future__ import annotations

import pytest

from gateway.domain.preferences import Preferences, is_retry, parse_idempotency_key, parse_prefer
from gateway.errors import InvalidRequest


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Preferences()),
        ("", Preferences()),
        ("wait=5", Preferences(5.0)),
        ('Wait="7"', Preferences(7.0)),
        ("respond-async", Preferences(0.0, respond_async=True)),
        ("respond-async, wait=10", Preferences(10.0, respond_async=True)),
        ("wait=10; foo=bar, return=minimal", Preferences(10.0)),
        ("wait=3, wait=9", Preferences(3.0)),
        ("handling=lenient", Preferences()),
        ("wait=soon, wait=-1, wait=1.5, wait", Preferences()),
    ],
)
def test_what_is_understood_is_heeded_and_the_rest_ignored(header: str | None, expected: Preferences):
    assert parse_prefer(header) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ('"8e03978e-40d5"', "8e03978e-40d5"),
        ("8e03978e-40d5", "8e03978e-40d5"),
        ('  "a b"  ', "a b"),
        (r'"say \"hi\" \\ bye"', r'say "hi" \ bye'),
        ("x" * 255, "x" * 255),
    ],
)
def test_a_key_is_a_string_in_quotes_or_a_bare_token(header: str | None, expected: str | None):
    assert parse_idempotency_key(header) == expected


@pytest.mark.parametrize("header", ["", " ", '""', '"', '"open', 'a"b', "x" * 256, "tab\there", "caf\xe9", '"a" "b"'])
def test_what_is_no_key_is_refused_and_says_what_one_is(header: str):
    with pytest.raises(InvalidRequest, match="1 to 255 visible ASCII"):
        parse_idempotency_key(header)


@pytest.mark.parametrize(
    ("header", "expected"), [(None, False), ("0", False), ("1", True), (" 2 ", True), ("-1", False), ("many", False)]
)
def test_an_sdk_says_that_it_asks_again(header: str | None, expected: bool):
    assert is_retry(header) is expected
