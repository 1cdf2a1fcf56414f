"""Providers with their keys, purchases with what became of them, and the books beside the provider's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.responses import Response

from gateway.console.page import Action, Page, View, whole_number
from gateway.console.pages.switches import switches

STATUSES = ("unknown", "pending", "sent", "answered", "succeeded", "failed")


# -- providers --------------------------------------------------------------------------------------------------------


async def providers(page: Page) -> Response:
    found = (await page.api.get("/admin/v1/providers"))["data"]
    keys = await asyncio.gather(*(page.api.get(f"/admin/v1/providers/{each['name']}/keys") for each in found))
    listed = [{**each, "list": its["data"]} for each, its in zip(found, keys, strict=True)]
    return page.show("providers.html", providers=listed)


async def add_key(page: Page) -> Response:
    form = page.form
    body = {"value": form.get("value", "").strip(), "name": form.get("name", "").strip() or None, **_shares(form)}
    await page.api.send("POST", f"/admin/v1/providers/{page.posted_id('provider')}/keys", body)
    return page.done("created")


async def rotate_key(page: Page) -> Response:
    await page.api.send("PATCH", _key_path(page), {"value": page.form.get("value", "").strip()})
    return page.done("saved")


def _key_path(page: Page) -> str:
    return f"/admin/v1/providers/{page.posted_id('provider')}/keys/{page.posted_id('key_id')}"


def _shares(form: Mapping[str, str]) -> dict[str, int]:
    """Weight and concurrency, where they were given. Raises InvalidRequest for what is no number."""
    found = {}
    for name in ("weight", "max_concurrency"):
        text = form.get(name, "").strip()
        if text:
            found[name] = whole_number(name, text, "1")
    return found


# -- purchases --------------------------------------------------------------------------------------------------------


async def purchases(page: Page) -> Response:
    """The unknown ones first: their money is held until somebody or the books say what it was."""
    query = page.query
    status = query.get("status", "")
    lists = await asyncio.gather(
        page.api.get("/admin/v1/generations", mode=page.mode, status="unknown", limit=50),
        page.api.get(
            "/admin/v1/generations",
            mode=page.mode,
            status=status if status in STATUSES else None,
            user_id=query.get("user_id"),
            limit=50,
            cursor=query.get("cursor"),
        ),
    )
    unknown, found = lists
    names = await page.api.names([row["user_id"] for answer in lists for row in answer["data"]])
    return page.show(
        "purchases.html",
        unknown=unknown["data"],
        rows=found["data"],
        cursor=found["next_cursor"],
        status=status,
        statuses=STATUSES,
        names=names,
        reconciled=None,
    )


async def reconcile(page: Page) -> Response:
    done = await page.api.send("POST", "/admin/v1/reconcile", {})
    return page.show("reconciled.html", done=done)


VIEWS = [
    View(
        "providers",
        providers,
        {
            "add": Action(add_key),
            "rotate": Action(rotate_key),
            **switches(
                _key_path,
                disabling="No new call uses it; those under way finish.",
                deleting="Its secret is erased. Calls under way with it finish.",
            ),
        },
    ),
    View("purchases", purchases, {"reconcile": Action(reconcile)}),
]
