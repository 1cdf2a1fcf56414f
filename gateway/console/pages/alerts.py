"""Webhooks that hear of limits, the alerts that there were, and how their delivery went."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from gateway.console.page import Action, Page, View
from gateway.console.pages.switches import switches


async def alerts(page: Page) -> Response:
    webhooks, found, deliveries = await asyncio.gather(
        page.api.get("/admin/v1/webhooks", limit=100),
        page.api.get("/admin/v1/alerts", mode=page.mode, limit=100, cursor=page.query.get("cursor")),
        page.api.get("/admin/v1/deliveries", limit=50, status=page.query.get("status")),
    )
    return page.show(
        "alerts.html",
        webhooks=webhooks["data"],
        alerts=found["data"],
        cursor=found["next_cursor"],
        deliveries=deliveries["data"],
        hook_names={each["id"]: each["name"] for each in webhooks["data"]},
        names=await page.api.names([each["scope_id"] for each in found["data"]]),
    )


async def create(page: Page) -> Response:
    form = page.form
    body = {"name": form.get("name", "").strip(), "url": form.get("url", "").strip()}
    return _shown_once(page, await page.api.send("POST", "/admin/v1/webhooks", body), "Created")


async def rotate(page: Page) -> Response:
    return _shown_once(page, await page.api.send("POST", f"{_path(page)}/rotate"), "Rotated")


def _shown_once(page: Page, made: dict[str, str], what: str) -> Response:
    return page.show("secret_shown.html", secret=made["secret"], what=what, back=page.path)


async def test(page: Page) -> Response:
    delivery = await page.api.send("POST", f"{_path(page)}/test")
    return page.done("delivered" if delivery["status"] == "delivered" else "not-delivered")


async def retry(page: Page) -> Response:
    await page.api.send("POST", f"/admin/v1/deliveries/{page.posted_id('delivery_id')}/retry")
    return page.done("queued")


def _path(page: Page) -> str:
    return f"/admin/v1/webhooks/{page.posted_id('webhook_id')}"


VIEWS = [
    View(
        "alerts",
        alerts,
        {
            "create": Action(create),
            "rotate": Action(rotate, confirm="Its old secret stops to sign at once: give the receiver the new one."),
            **switches(
                _path,
                disabling="It hears of nothing until it is enabled again.",
                deleting="What was not delivered yet is dropped.",
            ),
            "test": Action(test),
            "retry": Action(retry),
        },
    ),
]
