"""What no page links to: made-up addresses, forms and methods are refused in words, never with a trace."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import LedgerUnavailable
from tests.support.administrators import Organisation
from tests.support.console import Visitor, signed_in, words_of

ABSURD = [
    ("overview", {"from": "9999-12-30", "to": "9999-12-31"}),
    ("usage", {"from": "9999-01-01", "to": "9999-01-02"}),
    ("usage", {"group": "tag:<b>"}),
    ("calls", {"cursor": "\x00"}),
    ("limits", {"near": "²"}),
    ("limits", {"near": "9" * 5000}),
    ("gallery", {"seed": "9" * 40}),
    ("users", {"q": "\x00"}),
    ("statements", {"month": "9999-13"}),
]


async def test_an_absurd_address_breaks_no_page(world: Organisation):
    who = await signed_in(world.gateway)
    for path, query in ABSURD:
        answer = await who.get(f"live/{path}", **query)
        assert answer.status_code < 500, (path, query)


@pytest.mark.parametrize("path", ["teams", "users", "keys", "gallery", "thumbnails"])
async def test_an_id_that_is_none_leads_nowhere(world: Organisation, path: str):
    who = await signed_in(world.gateway)
    for made_up in ("%00", "%0a", "%3Fmode=test", "%23", "x" * 3000):
        answer = await who.get(f"live/{path}/{made_up}")
        assert 400 <= answer.status_code < 500, (made_up, answer.status_code)


async def test_an_id_in_a_form_leads_to_no_other_address(world: Organisation):
    """It once was put into the path as it came."""
    who = await signed_in(world.gateway)
    for made_up in (f"../users/{world.ours.user_id}", "\x00", "?", "a/b"):
        refused = await who.send("live/administrators", "delete", administrator_id=made_up)
        assert 400 <= refused.status_code < 500, words_of(refused.text)
    assert (await world.gateway.admin("GET", f"/users/{world.ours.user_id}"))["id"] == world.ours.user_id


async def test_hours_that_are_no_number_are_refused_in_words(world: Organisation):
    who = await signed_in(world.gateway)
    for hours in ("²", "9" * 5000, "-1", ""):
        refused = await who.send(f"live/keys/{world.ours.key_id}", "rotate", overlap_h=hours)
        assert refused.status_code == 400, hours
        assert "whole number" in words_of(refused.text)


async def test_head_is_answered_as_get_is(world: Organisation):
    who = await signed_in(world.gateway)
    assert (await who.request("HEAD", "live/overview")).status_code == 200
    for _ in range(12):  # a watch on the door is no guess of a key
        assert (await Visitor(world.gateway).request("HEAD", "sign-in")).status_code == 200


async def test_the_playground_spends_as_no_key_of_the_other_view(world: Organisation):
    who = await signed_in(world.gateway)
    test_key = await world.gateway.admin("POST", "/keys", {"user_id": world.ours.user_id, "mode": "test"})
    said: dict[str, Any] = {"prompt": "A fox", "seed": "77"}
    refused = await who.send("test/playground", "generate", key_id=world.ours.key_id, **said)
    assert refused.status_code == 400
    assert "choose a test one here" in words_of(refused.text)
    made = await who.send("test/playground", "generate", key_id=test_key["id"], **said)
    assert made.status_code == 200


class _NoDatabase:
    async def read(self, _work: object) -> None:
        raise LedgerUnavailable("The database does not answer.")


async def test_with_sql_gone_a_page_says_so(world: Organisation, monkeypatch: pytest.MonkeyPatch):
    """It was a 500 with a trace in the log, as who is signed in was asked outside of what catches refusals."""
    who = await signed_in(world.gateway)
    with monkeypatch.context() as fault:
        fault.setattr(world.gateway.resources.sessions, "_database", _NoDatabase())
        for method, path in (("GET", "live/overview"), ("POST", "live/teams"), ("POST", "sign-out"), ("GET", "")):
            answer = await who.request(method, path)
            assert answer.status_code == 503, (method, path)
            assert "The database does not answer." in words_of(answer.text)
    assert (await who.get("live/overview")).status_code == 200
