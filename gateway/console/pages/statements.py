"""Months that were closed: what each cost, frozen, and the corrections that came in later."""

from __future__ import annotations

import datetime as dt

from starlette.responses import Response

from gateway.console.page import Action, Page, View


async def statements(page: Page) -> Response:
    found = (await page.api.get("/admin/v1/statements", mode=page.mode, limit=100))["data"]
    return page.show("statements.html", rows=found, suggested=_last_month())


async def statement(page: Page) -> Response:
    path = f"/admin/v1/statements/{page.id()}"
    if page.query.get("format") == "csv":
        answer = await page.api.call("GET", path, params={"mode": page.mode}, headers={"accept": "text/csv"})
        name = f"darkroom-statement-{page.mode}-{page.id()}.csv"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(answer.content, media_type="text/csv", headers=headers)
    return page.show("statement.html", statement=await page.api.get(path, mode=page.mode))


async def close(page: Page) -> Response:
    body = {"month": page.form.get("month", "").strip(), "mode": page.mode}
    await page.api.send("POST", "/admin/v1/statements", body)
    return page.done("closed")


def _last_month() -> str:
    first = dt.datetime.now(dt.UTC).replace(day=1)
    return f"{first - dt.timedelta(days=1):%Y-%m}"


VIEWS = [
    View(
        "statements",
        statements,
        {
            "close": Action(
                close, confirm="Its statement is frozen for good: what changes later comes into later months."
            )
        },
    ),
    View("statements/{id}", statement),
]
