"""The form, the checksum and the hash of caller keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.api_key import Mode, hash_api_key, matches, new_api_key, parse_api_key


@pytest.mark.parametrize("mode", Mode)
def test_a_new_key_parses_to_itself(mode: Mode):
    key = new_api_key(mode)
    assert key.text.startswith(f"dk_{mode}_")
    assert len(key.text) == 58
    assert key.prefix == key.text[:20]
    assert parse_api_key(key.text) == key


def test_keys_differ():
    assert len({new_api_key(Mode.LIVE).prefix for _ in range(100)}) == 100


def test_a_key_is_not_shown_whole():
    key = new_api_key(Mode.LIVE)
    assert key.text not in repr(key)
    assert key.prefix in repr(key)


@given(position=st.integers(0, 57), character=st.characters())
def test_any_one_character_changed_is_refused(position: int, character: str):
    text = new_api_key(Mode.TEST).text
    changed = text[:position] + character + text[position + 1 :]
    assert (parse_api_key(changed) is None) == (changed != text)


@given(st.text(max_size=80))
def test_no_text_makes_parsing_fail(text: str):
    assert parse_api_key(text) is None
    assert parse_api_key("dk_live_" + text) is None


@pytest.mark.parametrize(
    "change",
    [lambda t: t[:-1], lambda t: t + "a", lambda t: " " + t, lambda t: t.upper(), lambda t: t + "\n"],
)
def test_a_key_not_copied_exactly_is_refused(change):
    assert parse_api_key(change(new_api_key(Mode.LIVE).text)) is None


def test_a_live_key_does_not_pass_for_a_test_key():
    assert parse_api_key(new_api_key(Mode.LIVE).text.replace("dk_live_", "dk_test_")) is None


def test_a_hash_matches_under_any_pepper_and_no_other():
    text = new_api_key(Mode.LIVE).text
    stored = hash_api_key(text, b"old")
    assert len(stored) == 64
    assert matches(text, stored, [b"new", b"old"])
    assert not matches(text, stored, [b"new"])
    assert not matches(text, stored, [])
    assert not matches(new_api_key(Mode.LIVE).text, stored, [b"old"])
