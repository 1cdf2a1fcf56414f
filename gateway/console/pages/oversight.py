"""Who changed what, and who may: the audit trail and the administrators."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from gateway.console.page import Action, Page, View
from gateway.console.pages.switches import switches

ROLES = (("viewer", "Viewer"), ("team-admin", "Team admin"), ("operator", "Operator"), ("owner", "Owner"))


async def audit(page: Page) -> Response:
    query = page.query
    found = await page.api.get(
        "/admin/v1/audit",
        limit=100,
        cursor=query.get("cursor"),
        actor=query.get("actor", "").strip(),
        action=query.get("what", "").strip(),
        object_id=query.get("object_id", "").strip(),
    )
    names = await page.api.names([event["object_id"] for event in found["data"]])
    return page.show("audit.html", events=found["data"], cursor=found["next_cursor"], names=names)


async def administrators(page: Page) -> Response:
    found, teams = await asyncio.gather(
        page.api.get("/admin/v1/administrators", limit=100, cursor=page.query.get("cursor")),
        page.api.get("/admin/v1/teams", limit=1000),
    )
    return page.show(
        "administrators.html",
        rows=found["data"],
        cursor=found["next_cursor"],
        teams=teams["data"],
        names=await page.api.names([row["team_id"] for row in found["data"]]),
        roles=ROLES,
    )


async def create(page: Page) -> Response:
    form = page.form
    body = {
        "name": form.get("name", "").strip(),
        "role": form.get("role", ""),
        "team_id": form.get("team_id") or None,
        "expires_at": f"{form['expires']}T23:59:59Z" if form.get("expires") else None,
    }
    given = {name: value for name, value in body.items() if value is not None}
    made = await page.api.send("POST", "/admin/v1/administrators", given)
    return page.show("key_shown.html", made=made, what=f"Key of {made['name']}", back=page.path)


async def rotate(page: Page) -> Response:
    made = await page.api.send("POST", f"{_path(page)}/rotate")
    return page.show("key_shown.html", made=made, what=f"New key of {made['name']}", back=page.path)


def _path(page: Page) -> str:
    return f"/admin/v1/administrators/{page.posted_id('administrator_id')}"


VIEWS = [
    View("audit", audit),
    View(
        "administrators",
        administrators,
        {
            "create": Action(create),
            "rotate": Action(
                rotate, confirm="The old key stops at once, and whoever is signed in with it is signed out."
            ),
            **switches(
                _path,
                disabling="Whoever is signed in with this key is signed out.",
                deleting="The key stops at once. What was done with it stays in the audit trail.",
            ),
        },
    ),
]
