"""Teams, users and keys: found, made, changed, limited. A key's text is shown once, in the answer to the form."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from gateway.console.format import counted
from gateway.console.page import Action, Page, View, whole_number
from gateway.console.periods import read_period
from gateway.errors import InvalidRequest

_PAGE = 100
METRICS = (
    ("cost_usd", "Cost, in dollars"),
    ("requests", "Requests"),
    ("images", "Pictures"),
    ("megapixels", "Megapixels"),
    ("concurrency", "Purchases at once"),
)
WINDOWS = (("month", "a month"), ("day", "a day"), ("hour", "an hour"), ("minute", "a minute"), ("total", "in total"))


# -- lists ------------------------------------------------------------------------------------------------------------


async def teams(page: Page) -> Response:
    found = await _list(page, "teams")
    return page.show("teams.html", rows=found["data"], cursor=found["next_cursor"])


async def users(page: Page) -> Response:
    found, all_teams = await asyncio.gather(_list(page, "users", team_id=page.query.get("team_id")), _teams(page))
    return page.show(
        "users.html",
        rows=found["data"],
        cursor=found["next_cursor"],
        teams=all_teams,
        names=await page.api.names([row["team_id"] for row in found["data"]]),
    )


async def keys(page: Page) -> Response:
    query = page.query
    found = await _list(page, "keys", mode=page.mode, user_id=query.get("user_id"), team_id=query.get("team_id"))
    return page.show(
        "keys.html",
        rows=found["data"],
        cursor=found["next_cursor"],
        names=await page.api.names([row["user_id"] for row in found["data"]]),
        users=await _users(page),
        user_id=page.form.get("user_id") or query.get("user_id", ""),
        state=key_state,
    )


async def _list(page: Page, kind: str, **asked: str | None) -> Any:
    query = page.query
    return await page.api.get(
        f"/admin/v1/{kind}", limit=_PAGE, cursor=query.get("cursor"), q=query.get("q", "").strip(), **asked
    )


async def _teams(page: Page) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = (await page.api.get("/admin/v1/teams", limit=1000))["data"]
    return sorted(found, key=lambda team: str(team["name"]).casefold())


async def _users(page: Page) -> Sequence[Mapping[str, Any]]:
    """For choosing one: the thousand newest."""
    if not page.may("manage_accounts"):
        return []
    found: Sequence[Mapping[str, Any]] = (await page.api.get("/admin/v1/users", limit=1000))["data"]
    return sorted(found, key=lambda user: str(user["name"]).casefold())


def key_state(key: Mapping[str, Any]) -> str:
    if key["unusable_because"] is not None:
        return str(key["unusable_because"])
    return "rotated" if key["rotated_to"] is not None else "active"


# -- one --------------------------------------------------------------------------------------------------------------


async def team(page: Page) -> Response:
    found = await page.api.get(f"/admin/v1/teams/{page.id()}")
    members, *common = await asyncio.gather(
        page.api.get("/admin/v1/users", team_id=page.id(), limit=_PAGE),
        *_about(page, "teams", "team_id"),
    )
    return page.show("team.html", team=found, question=_stops(found), members=members["data"], **_common(common))


def _stops(team: Mapping[str, Any]) -> str:
    """What the end of a team comes to."""
    stopped = f"{counted(team['usable_keys'], 'key')} of {counted(team['users'], 'user')}"
    return f"This stops {stopped}: users stay in the team, and their keys are refused until they are moved to another."


async def ask_to_delete_team(page: Page) -> str:
    return _stops(await page.api.get(f"/admin/v1/teams/{page.id()}"))


async def user(page: Page) -> Response:
    found, own_keys, all_teams, *common = await asyncio.gather(
        page.api.get(f"/admin/v1/users/{page.id()}"),
        page.api.get("/admin/v1/keys", user_id=page.id(), limit=_PAGE),
        _teams(page),
        *_about(page, "users", "user_id"),
    )
    return page.show(
        "user.html",
        user=found,
        keys=own_keys["data"],
        teams=all_teams,
        names=await page.api.names([found["team_id"]]),
        state=key_state,
        **_common(common),
    )


async def key(page: Page) -> Response:
    found, *common = await asyncio.gather(page.api.get(f"/admin/v1/keys/{page.id()}"), *_about(page, "keys", "key_id"))
    names = await page.api.names([found["user_id"]])
    return page.show("key.html", key=found, names=names, state=key_state, **_common(common))


def _about(page: Page, kind: str, restricted: str) -> list[Any]:
    """What is shown of every account: its month, the limits that apply, what was done to it."""
    period = read_period({"period": "month"}, dt.datetime.now(dt.UTC))
    return [
        page.api.get("/admin/v1/usage", mode=page.mode, **period.range, **{restricted: page.id()}),
        page.api.get(f"/admin/v1/{kind}/{page.id()}/limits/usage", mode=page.mode),
        page.api.get("/admin/v1/audit", object_id=page.id(), limit=20),
    ]


def _common(answers: Sequence[Any]) -> dict[str, Any]:
    month, in_use, events = answers
    return {
        "month": month["total"],
        "limits": in_use,
        "events": events["data"],
        "metrics": METRICS,
        "windows": WINDOWS,
    }


# -- changes ----------------------------------------------------------------------------------------------------------


async def create_team(page: Page) -> Response:
    made = await page.api.send("POST", "/admin/v1/teams", {"name": page.form.get("name", "").strip()})
    return page.done("created", page.place(f"teams/{made['id']}"))


async def create_user(page: Page) -> Response:
    made = await page.api.send("POST", "/admin/v1/users", _user_values(page))
    return page.done("created", page.place(f"users/{made['id']}"))


async def update_user(page: Page) -> Response:
    """A team that stays is not sent: it may be deleted, which keeps its users' keys shut until they are moved."""
    values = _user_values(page)
    if values["team_id"] == (await page.api.get(f"/admin/v1/users/{page.id()}"))["team_id"]:
        del values["team_id"]
    await page.api.send("PATCH", f"/admin/v1/users/{page.id()}", values)
    return page.done("saved")


def _user_values(page: Page) -> dict[str, Any]:
    form = page.form
    return {
        "name": form.get("name", "").strip(),
        "email": form.get("email", "").strip() or None,
        "team_id": form.get("team_id") or None,
    }


async def rename_team(page: Page) -> Response:
    await page.api.send("PATCH", f"/admin/v1/teams/{page.id()}", {"name": page.form.get("name", "").strip()})
    return page.done("saved")


async def create_key(page: Page) -> Response:
    form = page.form
    models = [each.strip() for each in form.get("models", "").split(",") if each.strip()]
    body = {
        "user_id": form.get("user_id", ""),
        "name": form.get("name", "").strip() or None,
        "mode": page.mode,
        "models": models or None,
        "expires_at": f"{form['expires']}T23:59:59Z" if form.get("expires") else None,
    }
    made = await page.api.send("POST", "/admin/v1/keys", {name: value for name, value in body.items() if value})
    return _shown_once(page, made, "Created")


async def rotate_key(page: Page) -> Response:
    hours = whole_number("overlap_h", page.form.get("overlap_h", "24"), "24")
    made = await page.api.send("POST", f"/admin/v1/keys/{page.id()}/rotate", {"overlap_s": hours * 3600})
    return _shown_once(page, made, "Rotated")


def _shown_once(page: Page, made: Mapping[str, Any], what: str) -> Response:
    return page.show("key_shown.html", made=made, what=what, back=page.place(f"keys/{made['id']}"))


async def rename_key(page: Page) -> Response:
    await page.api.send("PATCH", f"/admin/v1/keys/{page.id()}", {"name": page.form.get("name", "").strip() or None})
    return page.done("saved")


async def disable_keys(page: Page) -> Response:
    return await _each_key(page, {"disabled": True}, "disabled")


async def enable_keys(page: Page) -> Response:
    return await _each_key(page, {"disabled": False}, "enabled")


async def delete_keys(page: Page) -> Response:
    return await _each_key(page, None, "deleted")


async def _each_key(page: Page, values: Mapping[str, Any] | None, done: str) -> Response:
    """Of one key's page that key, of the list the chosen ones, one after the other: a refusal says which it was."""
    one = page.request.path_params.get("id")
    chosen = [one] if one else page.form.getlist("chosen")
    if not chosen:
        raise InvalidRequest("Choose the keys first.", param="chosen")
    for key_id in chosen:
        method = "DELETE" if values is None else "PATCH"
        await page.api.send(method, f"/admin/v1/keys/{key_id}", values)
    return page.done(done, page.place("keys") if one and values is None else None)


async def delete_account(page: Page) -> Response:
    kind = page.path.split("/")[-2]
    await page.api.send("DELETE", f"/admin/v1/{kind}/{page.id()}")
    return page.done("deleted", page.place(kind))


async def erase_user(page: Page) -> Response:
    await page.api.send("POST", f"/admin/v1/users/{page.id()}/erase")
    return page.done("erased", page.place("users"))


async def set_limit(page: Page) -> Response:
    """One more limit, or another amount of one that is there: the API takes all of a scope at once."""
    form = page.form
    metric = form.get("metric", "")
    window = None if metric == "concurrency" else form.get("window", "")
    kept = [each for each in await _own_limits(page) if (each["metric"], each["window"]) != (metric, window)]
    added = {"metric": metric, "amount": _amount(form), "alert_at": _alerts(form)}
    await _put_limits(page, [*kept, added if window is None else {**added, "window": window}])
    return page.done("saved")


async def unset_limit(page: Page) -> Response:
    gone = (page.form.get("metric"), page.form.get("window") or None)
    kept = [each for each in await _own_limits(page) if (each["metric"], each["window"]) != gone]
    await _put_limits(page, kept)
    return page.done("deleted")


def _amount(form: Mapping[str, str]) -> str:
    text = form.get("amount", "").strip().removeprefix("$")
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise InvalidRequest("amount: a plain number is due, like 1000 or 0.5, without commas.", param="amount")
    return text


def _alerts(form: Mapping[str, str]) -> list[int] | None:
    text = form.get("alert_at", "").replace("%", " ").replace(",", " ").split()
    return sorted({whole_number("alert_at", each, "80") for each in text}) or None


async def _own_limits(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await page.api.get(f"{_scope(page)}/limits")
    return found


async def _put_limits(page: Page, wanted: Sequence[Mapping[str, Any]]) -> None:
    body = [{name: value for name, value in each.items() if value is not None} for each in wanted]
    await page.api.send("PUT", f"{_scope(page)}/limits", body)


def _scope(page: Page) -> str:
    return f"/admin/v1/{page.path.split('/')[-2]}/{page.id()}"


_LIMITS = {"limit": Action(set_limit), "no-limit": Action(unset_limit)}
_DELETE_KEY = "These keys are refused everywhere within seconds, and can't be brought back. Their history stays."
_DISABLE_KEY = "Calls with these keys are refused until they are enabled again."

VIEWS = [
    View("teams", teams, {"create": Action(create_team)}),
    View(
        "teams/{id}",
        team,
        {
            "rename": Action(rename_team),
            "delete": Action(delete_account, confirm=ask_to_delete_team),
            **_LIMITS,
        },
    ),
    View("users", users, {"create": Action(create_user)}),
    View(
        "users/{id}",
        user,
        {
            "update": Action(update_user),
            "delete": Action(delete_account, confirm="The user's keys are deleted with it. The history stays."),
            "erase": Action(
                erase_user,
                confirm="Prompts, pictures, name and e-mail go for good, the user's keys with them. Money rows stay, "
                "under a pseudonym. This can't be undone.",
            ),
            **_LIMITS,
        },
    ),
    View(
        "keys",
        keys,
        {
            "create": Action(create_key),
            "disable": Action(disable_keys, confirm=_DISABLE_KEY),
            "enable": Action(enable_keys),
            "delete": Action(delete_keys, confirm=_DELETE_KEY),
        },
    ),
    View(
        "keys/{id}",
        key,
        {
            "rename": Action(rename_key),
            "rotate": Action(rotate_key),
            "disable": Action(disable_keys, confirm=_DISABLE_KEY),
            "enable": Action(enable_keys),
            "delete": Action(delete_keys, confirm=_DELETE_KEY),
            **_LIMITS,
        },
    ),
]
