"""Public ids: their form, and the order of those of requests."""

from __future__ import annotations

import re
import time

import pytest

from gateway.domain.ids import IdKind, new_id


@pytest.mark.parametrize("kind", ["team", "gen", "img", "req"])
def test_an_id_is_its_kind_and_24_characters(kind: IdKind):
    assert re.fullmatch(kind + "_[0-9A-Za-z]{24}", new_id(kind))


def test_ids_do_not_come_twice():
    assert len({new_id("req") for _ in range(10_000)}) == 10_000


def test_ids_of_requests_are_in_the_order_of_their_time():
    first = new_id("req")
    time.sleep(0.002)
    assert first < new_id("req")
