"""Months that were closed: what each cost, frozen, and the corrections that came in later."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from starlette.responses import Response

from gateway.console.page import Action, Page, View


async def statements(page: Page) -> Response:
    found = (await page.api.get("/admin/v1/statements", mode=page.mode, limit=100))["data"]
    today = dt.datetime.now(dt.UTC).date()
    return page.show("statements.html", rows=found, suggested=next_to_close([row["month"] for row in found], today))


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


def next_to_close(closed: Sequence[str], today: dt.date) -> str | None:
    """The month after the newest that is closed, the last one if none is; None when that is not over yet."""
    last = f"{today.replace(day=1) - dt.timedelta(days=1):%Y-%m}"
    if not closed:
        return last
    following = dt.date.fromisoformat(f"{max(closed)}-28") + dt.timedelta(days=4)
    return f"{following:%Y-%m}" if f"{following:%Y-%m}" <= last else None


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
