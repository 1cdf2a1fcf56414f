"""Sealed secrets open with their key, at their place, unchanged; and not otherwise."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigurationError
from gateway.storage.sealing import Sealer

OLD, NEW = os.urandom(32), os.urandom(32)
PLACE = "provider_keys/pkey_1/secret"


@given(st.text())
def test_what_is_sealed_opens_again(secret: str):
    sealer = Sealer([NEW])
    assert sealer.open(sealer.seal(secret, place=PLACE), place=PLACE) == secret


def test_it_tells_nothing_and_never_looks_the_same():
    sealed = [Sealer([NEW]).seal("a secret", place=PLACE) for _ in range(2)]
    assert sealed[0] != sealed[1]
    assert "a secret" not in "".join(sealed)
    assert sealed[0].startswith("v1:")


def test_an_older_key_still_opens_and_the_first_seals():
    sealed = Sealer([OLD]).seal("a secret", place=PLACE)
    both = Sealer([NEW, OLD])
    assert both.open(sealed, place=PLACE) == "a secret"
    assert not both.is_current(sealed)
    assert both.is_current(both.seal("a secret", place=PLACE))


def test_without_its_key_it_says_which_is_missing():
    with pytest.raises(ConfigurationError, match="encryption_keys lacks the key"):
        Sealer([NEW]).open(Sealer([OLD]).seal("a secret", place=PLACE), place=PLACE)


def test_moved_to_another_row_it_does_not_open():
    sealer = Sealer([NEW])
    with pytest.raises(ConfigurationError, match="changed, or belongs to another row"):
        sealer.open(sealer.seal("a secret", place=PLACE), place="provider_keys/pkey_2/secret")


@pytest.mark.parametrize("part", [0, 1, 2, 3])
def test_changed_anywhere_it_does_not_open(part: int):
    sealer = Sealer([NEW])
    parts = sealer.seal("a secret", place=PLACE).split(":")
    parts[part] = parts[part][:-2] + ("AA" if parts[part][-2:] != "AA" else "BB")
    with pytest.raises(ConfigurationError):
        sealer.open(":".join(parts), place=PLACE)


@pytest.mark.parametrize("sealed", ["", "v1:a", "v1:a:b:c:d", "plain text"])
def test_what_was_never_sealed_does_not_open(sealed: str):
    with pytest.raises(ConfigurationError):
        Sealer([NEW]).open(sealed, place=PLACE)
