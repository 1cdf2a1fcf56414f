"""Forms: what they do, and how they tell what was wrong without losing what was written."""

from __future__ import annotations

import ast
import datetime as dt
import json
import shlex
from typing import Any

import pytest

from gateway.console.pages.pictures import snippets
from gateway.console.pages.statements import next_to_close
from tests.support.administrators import Organisation
from tests.support.console import Visitor, signed_in, words_of


@pytest.fixture
async def who(world: Organisation) -> Visitor:
    return await signed_in(world.gateway)


@pytest.mark.parametrize(
    ("path", "action", "form", "said"),
    [
        ("users", "create", {"name": "", "email": "ada@example.com"}, "name"),
        ("users", "create", {"name": "Ada", "email": "no address"}, "email"),
        ("keys", "create", {"user_id": "user_none"}, "there is no user with this id"),
        ("keys", "create", {"user_id": "", "expires": "yesterday"}, "user_id"),
        ("keys", "disable", {}, "Choose the keys first"),
        ("providers", "add", {"provider": "aimlapi", "value": "secret", "weight": "much"}, "a whole number is due"),
        ("providers", "add", {"provider": "none", "value": "secret"}, "none"),
        ("administrators", "create", {"name": "Tess", "role": "team-admin"}, "team"),
        ("alerts", "create", {"name": "Pager", "url": "ftp://example.com"}, "http"),
        ("statements", "close", {"month": "2026-13"}, "month"),
        ("playground", "quote", {}, "Choose the key that pays"),
    ],
)
async def test_a_refusal_says_what_was_wrong_on_the_page_itself(
    who: Visitor, path: str, action: str, form: dict[str, Any], said: str
):
    answer = await who.send(f"live/{path}", action, **form)
    assert answer.status_code == 400
    assert said in words_of(answer.text)
    assert 'role="alert"' in answer.text
    for value in form.values():
        if value and value not in {"secret", "user_none", "team-admin", "aimlapi", "none"} and path != "keys":
            assert f'value="{value}"' in answer.text, "what was written is still there"


@pytest.mark.parametrize(
    ("closed", "offered"),
    [
        ([], "2026-12"),
        (["2026-12", "2026-11"], None),
        (["2026-11", "2026-10"], "2026-12"),
        (["2026-09"], "2026-10"),
        (["2025-12"], "2026-01"),
    ],
)
def test_the_month_that_is_offered_is_one_to_be_closed(closed: list[str], offered: str | None):
    assert next_to_close(closed, dt.date(2027, 1, 31)) == offered


async def test_a_month_that_is_closed_is_not_offered_again(who: Visitor):
    month = f"{dt.datetime.now(dt.UTC).replace(day=1) - dt.timedelta(days=1):%Y-%m}"
    assert f'value="{month}"' in (await who.get("live/statements")).text
    assert (await who.send("live/statements", "close", month=month)).status_code == 303
    page = (await who.get("live/statements")).text
    assert f'value="{month}"' not in page
    assert "Every month that is over is closed" in words_of(page)


async def test_a_secret_that_was_refused_is_not_written_back(who: Visitor):
    answer = await who.send("live/providers", "add", provider="aimlapi", value="s3cr3t", weight="much")
    assert "s3cr3t" not in answer.text


async def test_what_would_be_gone_is_asked_about_first(who: Visitor, world: Organisation):
    path = f"live/users/{world.ours.user_id}"
    asked = await who.send(path, "erase", confirmed="no")
    assert asked.status_code == 200
    assert "This can't be undone" in words_of(asked.text)
    assert (await world.gateway.admin("GET", f"/users/{world.ours.user_id}"))["name"] == "Ours user"
    done = await who.send(path, "erase")
    assert done.headers["location"] == "/console/live/users?done=erased"
    assert "Erased. The money rows stay" in await who.text("live/users", done="erased")


async def test_to_delete_a_team_is_asked_with_what_stops(who: Visitor, world: Organisation):
    path, user_id = f"live/teams/{world.ours.id}", world.ours.user_id
    spare = await world.gateway.admin("POST", "/keys", {"user_id": user_id, "mode": "test"})
    await world.gateway.admin("PATCH", f"/keys/{spare['id']}", {"disabled": True})
    await world.gateway.admin("POST", "/keys", {"user_id": user_id, "mode": "test"})
    asked = await who.send(path, "delete", confirmed="no")
    for page in (asked.text, (await who.get(path)).text):
        assert "This stops 2 keys of 1 user: users stay in the team" in page


async def test_of_a_deleted_team_its_users_and_keys_tell_and_nothing_leads_nowhere(who: Visitor, world: Organisation):
    await who.send(f"live/teams/{world.ours.id}", "delete")
    user = f"live/users/{world.ours.user_id}"
    for path in ("live/users", user, "live/keys", f"live/keys/{world.ours.key_id}"):
        page = await who.get(path)
        assert "team deleted" in words_of(page.text), path
        assert f"/teams/{world.ours.id}" not in page.text, path
    refused = await who.send("live/keys", "create", user_id=world.ours.user_id)
    assert (refused.status_code, "Move the user to another team" in words_of(refused.text)) == (400, True)


async def test_what_an_address_says_was_done_is_one_of_ours(who: Visitor):
    page = await who.text("live/users", done="<b>Call this number</b>")
    assert "Call this number" not in page


async def test_a_limit_is_added_beside_the_others_and_taken_away(who: Visitor, world: Organisation):
    path = f"live/keys/{world.ours.key_id}"
    await who.send(path, "limit", metric="cost_usd", window="month", amount="5", alert_at="80, 100 %")
    await who.send(path, "limit", metric="concurrency", window="month", amount="3", alert_at="")
    await who.send(path, "limit", metric="cost_usd", window="month", amount="$7", alert_at="")
    limits = await world.gateway.admin("GET", f"/keys/{world.ours.key_id}/limits")
    assert [(each["metric"], each["window"], each["amount"]) for each in limits] == [
        ("concurrency", None, "3"),
        ("cost_usd", "month", "7"),
    ]
    await who.send(path, "no-limit", metric="concurrency", window="")
    limits = await world.gateway.admin("GET", f"/keys/{world.ours.key_id}/limits")
    assert [each["metric"] for each in limits] == ["cost_usd"]


async def test_an_unknown_action_and_an_unknown_method_change_nothing(who: Visitor):
    assert (await who.send("live/teams", "explode")).status_code == 400
    assert (await who.request("DELETE", "live/teams")).status_code == 405


async def test_a_key_is_shown_once_and_works(who: Visitor, world: Organisation):
    shown = await who.send("live/keys", "create", user_id=world.ours.user_id, name="new")
    key = shown.text.split('id="the-key">')[1].split("<")[0]
    assert (await world.gateway.generate(key, seed=1, prompt="Of Ours")).headers["cache-status"] == "darkroom; hit"
    assert shown.headers["cache-control"] == "no-store"
    assert key not in (await who.get("live/keys")).text


def test_the_snippets_say_the_call_exactly():
    body = {"model": "flux-pro", "prompt": "It's \"7 o'clock\" $(date)", "seed": 2**53 + 1}
    *_, (_, node) = snippets("http://127.0.0.1:8080", body)
    assert f'\\"seed\\": {2**53 + 1}' in node, "as text: JavaScript would round the number"
    (_, curl), (_, python), (_, node) = snippets("http://127.0.0.1:8080", {**body, "seed": 7})
    words = shlex.split(curl.replace("\\\n", " "))
    assert json.loads(words[words.index("-d") + 1]) == {**body, "seed": 7}
    call = next(each for each in ast.walk(ast.parse(python)) if isinstance(each, ast.Call) and len(each.keywords) == 3)
    said = {each.arg: ast.literal_eval(each.value) for each in call.keywords}
    assert said.pop("extra_body") | said == {**body, "seed": 7}
    assert json.loads(node.split("generate(")[1].split(");")[0]) == {**body, "seed": 7}
    assert snippets("http://127.0.0.1:8080", None) == []
