"""What no page offers, sent all the same: absurd ids, forms and methods get a page that says so, and change nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.administrators import Organisation
from tests.support.console import Visitor, signed_in, words_of
from tests.support.gateway import ADMIN_KEY

_FORM = {"content-type": "application/x-www-form-urlencoded"}


def _said(name: str, value: str) -> dict[str, Any]:
    return {name: value}


@pytest.fixture
async def who(world: Organisation) -> Visitor:
    return await signed_in(world.gateway)


@pytest.mark.parametrize("given", ["%00", "a%0Ab", "%3Flimit=1", "%2E%2E"])
@pytest.mark.parametrize("page", ["teams", "users", "keys", "gallery", "thumbnails", "statements"])
async def test_an_id_that_is_none_is_not_found(who: Visitor, page: str, given: str):
    assert (await who.get(f"live/{page}/{given}")).status_code in ({404, 400} if page == "statements" else {404})


@pytest.mark.parametrize("field", ["webhook_id", "delivery_id"])
async def test_an_id_in_a_form_leads_to_no_other_route(who: Visitor, world: Organisation, field: str):
    action = "test" if field == "webhook_id" else "retry"
    answer = await who.send("live/alerts", action, **_said(field, f"../keys/{world.ours.key_id}"))
    assert (answer.status_code, "Nothing has this id." in words_of(answer.text)) == (404, True)


async def test_the_keys_that_are_chosen_are_keys(who: Visitor, world: Organisation):
    for chosen in (f"../users/{world.ours.user_id}", "a\nb"):
        assert (await who.send("live/keys", "delete", chosen=chosen)).status_code == 404
    assert (await world.gateway.admin("GET", f"/users/{world.ours.user_id}"))["id"] == world.ours.user_id


@pytest.mark.parametrize("number", ["²", "9" * 5000, "-1", "1.5"])
async def test_a_number_that_is_none_is_refused_by_name(who: Visitor, world: Organisation, number: str):
    limit: dict[str, Any] = {"metric": "cost_usd", "window": "month", "amount": "5", "alert_at": number}
    for path, action, form in (
        (f"live/users/{world.ours.user_id}", "limit", limit),
        (f"live/keys/{world.ours.key_id}", "rotate", {"overlap_h": number}),
        ("live/providers", "add", {"provider": "aimlapi", "value": "x", "weight": number}),
    ):
        answer = await who.send(path, action, **form)
        assert (answer.status_code, "a whole number is due" in words_of(answer.text)) == (400, True), path
    assert (await who.get("live/limits", near=number)).status_code == 400


async def test_money_is_spent_by_the_key_that_was_chosen_and_in_its_own_view_alone(who: Visitor, world: Organisation):
    live = world.ours.key_id
    for action in ("quote", "generate"):
        refused = await who.send("test/playground", action, key_id=live, model="flux-pro", prompt="A view")
        assert (refused.status_code, "This is a live key" in words_of(refused.text)) == (400, True), action
    assert (await who.get("test/playground", key_id=live)).status_code == 400
    assert f'value="{live}" selected' in (await who.get("live/playground", key_id=live)).text
    await world.gateway.admin("PATCH", f"/keys/{live}", {"disabled": True})
    disabled = await who.get("live/playground", key_id=live)
    assert "This key does not work (disabled)" in words_of(disabled.text), "another key would pay"


async def test_the_script_is_told_in_a_part_of_a_page_and_never_in_a_whole_one(who: Visitor, world: Organisation):
    for action in ("quote", "generate"):
        for key_id, seed, said in (
            (world.ours.key_id, "1.2.3", "seed: '1.2.3' is not a number."),
            ("key_none", "1", "There is no key"),
        ):
            form: dict[str, Any] = {"csrf": await who.csrf(), "key_id": key_id, "model": "flux-pro", "seed": seed}
            accept = {"accept": "text/x-fragment"}
            answer = await who.request("POST", "live/playground", data={**form, "action": action}, headers=accept)
            assert said in words_of(answer.text)
            assert "<html" not in answer.text


async def test_to_rename_a_user_lets_it_not_out_of_its_deleted_team(who: Visitor, world: Organisation):
    await world.gateway.admin("DELETE", f"/teams/{world.ours.id}")
    page = (await who.get(f"live/users/{world.ours.user_id}")).text
    [chosen] = re.findall(r'<option value="([^"]+)" selected>', page[page.index('name="team_id"') :])
    assert chosen == world.ours.id
    saved = await who.send(f"live/users/{world.ours.user_id}", "update", name="Renamed", team_id=chosen)
    assert saved.status_code == 303, words_of(saved.text)
    user = await world.gateway.admin("GET", f"/users/{world.ours.user_id}")
    assert (user["name"], user["team_id"]) == ("Renamed", world.ours.id)
    assert (await world.gateway.generate(world.ours.key, seed=1)).status_code == 403


async def test_a_form_of_too_many_fields_is_refused_at_every_door(who: Visitor):
    form = "&".join(f"f{at}=1" for at in range(4001))
    for path in ("live/teams", "sign-in", "sign-out"):
        answer = await who.request("POST", path, content=form, headers=_FORM)
        assert (answer.status_code, "4000 fields at most" in words_of(answer.text)) == (400, True), path


async def test_asking_for_the_headers_alone_is_looking(who: Visitor):
    for path in ("live/overview", "live/teams"):
        answer = await who.request("HEAD", path)
        assert (answer.status_code, answer.content) == (200, b"")


async def test_asking_for_the_headers_of_the_door_is_no_attempt_to_come_in(world: Organisation):
    visitor = Visitor(world.gateway)
    for _ in range(11):
        assert (await visitor.request("HEAD", "sign-in")).status_code == 200
    assert (await visitor.sign_in(ADMIN_KEY)).status_code == 303
