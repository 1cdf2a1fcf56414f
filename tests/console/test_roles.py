"""Who may see which page, and who may do what on it: what a role must not do is refused in the page as in the API."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.console.pages import VIEWS
from gateway.domain.administrator import Role
from tests.support.administrators import Organisation
from tests.support.console import signed_in, words_of

EVERYBODY = {Role.OWNER, Role.OPERATOR, Role.VIEWER, Role.TEAM_ADMIN}
ALL_BUT_TEAM_ADMINS = EVERYBODY - {Role.TEAM_ADMIN}
SPENDERS = EVERYBODY - {Role.VIEWER}
PAGES = {
    "overview": EVERYBODY,
    "usage": EVERYBODY,
    "calls": EVERYBODY,
    "limits": EVERYBODY,
    "statements": EVERYBODY,
    "gallery": EVERYBODY,
    "gallery/{generation}": EVERYBODY,
    "thumbnails/{image}": EVERYBODY,
    "playground": SPENDERS,
    "teams": EVERYBODY,
    "teams/{team}": EVERYBODY,
    "users": EVERYBODY,
    "users/{user}": EVERYBODY,
    "keys": EVERYBODY,
    "keys/{key}": EVERYBODY,
    "administrators": {Role.OWNER},
    "providers": ALL_BUT_TEAM_ADMINS,
    "purchases": EVERYBODY,
    "alerts": ALL_BUT_TEAM_ADMINS,
    "audit": EVERYBODY,
}
OWN = {"mine", "pictures", "pictures/{generation}", "my-thumbnails/{image}", "playground"}


async def places(world: Organisation) -> dict[str, str]:
    ours = world.ours
    pictures = await world.gateway.admin("GET", "/pictures", user_id=ours.user_id)
    return {
        "generation": ours.bought["id"],
        "image": pictures["data"][0]["image_id"],
        "team": ours.id,
        "user": ours.user_id,
        "key": ours.key_id,
    }


def test_every_page_is_in_the_table():
    known = {path.partition("{")[0].rstrip("/") for path in (*PAGES, *OWN)}
    there = {view.path.partition("{")[0].rstrip("/") for view in VIEWS}
    assert there == known


@pytest.mark.parametrize("role", sorted(EVERYBODY))
async def test_each_role_sees_its_pages_and_no_other(world: Organisation, role: Role):
    who = await signed_in(world.gateway, world.keys[role])
    named = await places(world)
    for path, allowed in PAGES.items():
        answer = await who.get(f"live/{path.format(**named)}")
        assert answer.status_code == (200 if role in allowed else 403), (path, words_of(answer.text))


async def test_a_caller_sees_its_own_pages_alone(world: Organisation):
    who = await signed_in(world.gateway, world.ours.key)
    named = await places(world)
    for path in (*PAGES, *OWN):
        answer = await who.get(f"live/{path.format(**named)}")
        assert answer.status_code == (200 if path in OWN else 403), path


async def test_the_menu_leads_to_what_may_be_seen(world: Organisation):
    for role in EVERYBODY:
        who = await signed_in(world.gateway, world.keys[role])
        page = (await who.get("live/teams")).text
        for path, allowed in PAGES.items():
            if "{" not in path:
                assert (f'href="/console/live/{path}"' in page) == (role in allowed), (role, path)


async def test_a_viewer_is_shown_no_button_and_refused_what_it_posts(world: Organisation):
    who = await signed_in(world.gateway, world.keys[Role.VIEWER])
    named = await places(world)
    for path, allowed in PAGES.items():
        if Role.VIEWER in allowed and "thumb" not in path:
            page = (await who.get(f"live/{path.format(**named)}")).text
            assert page.count('method="post"') == 1, f"{path}: signing out is all"
    forged: dict[str, tuple[str, dict[str, Any]]] = {
        "teams": ("create", {"name": "x"}),
        f"teams/{world.ours.id}": ("rename", {"name": "x"}),
        "users": ("create", {"name": "x"}),
        f"users/{world.ours.user_id}": ("erase", {}),
        "keys": ("delete", {"chosen": world.ours.key_id}),
        f"keys/{world.ours.key_id}": ("limit", {"metric": "images", "window": "day", "amount": "0"}),
        f"gallery/{named['generation']}": ("purge", {}),
        "purchases": ("reconcile", {}),
        "providers": ("add", {"provider": "aimlapi", "value": "x"}),
        "statements": ("close", {"month": "2026-01"}),
        "alerts": ("create", {"name": "x", "url": "https://x.example"}),
    }
    for path, (action, form) in forged.items():
        answer = await who.send(f"live/{path}", action, **form)
        assert answer.status_code == 400, path
        assert "is viewer, which may not" in words_of(answer.text), path
    assert (await world.gateway.admin("GET", f"/keys/{world.ours.key_id}"))["disabled"] is False


async def test_a_team_admin_finds_nothing_of_another_team(world: Organisation):
    who = await signed_in(world.gateway, world.keys[Role.TEAM_ADMIN])
    theirs = world.theirs
    for path in ("overview", "usage", "calls", "limits", "gallery", "teams", "users", "keys", "purchases", "audit"):
        assert "Theirs" not in await who.text(f"live/{path}"), path
    for path in (
        f"gallery/{theirs.bought['id']}",
        f"teams/{theirs.id}",
        f"users/{theirs.user_id}",
        f"keys/{theirs.key_id}",
        "playground",
    ):
        answer = await who.get(f"live/{path}", key_id=theirs.key_id)
        assert "Theirs" not in words_of(answer.text), path
        assert answer.status_code == 404, path


async def test_a_team_admin_spends_as_keys_of_its_team_only(world: Organisation):
    who = await signed_in(world.gateway, world.keys[Role.TEAM_ADMIN])
    form: dict[str, Any] = {"model": "flux-pro", "prompt": "Of Ours", "seed": "1"}
    ours = await who.send("live/playground", "generate", key_id=world.ours.key_id, **form)
    assert "From the cache" in words_of(ours.text)
    theirs = await who.send("live/playground", "generate", key_id=world.theirs.key_id, **form)
    assert theirs.status_code == 400
    assert "There is no key" in words_of(theirs.text)
