"""To disable, enable and delete one thing of a list: what several pages do alike."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response

from gateway.console.page import Action, Page


def switches(path: Callable[[Page], str], *, disabling: str, deleting: str) -> dict[str, Action]:
    """`path`: of the thing that a form names, in the admin API. `disabling` and `deleting`: what is asked first."""

    async def disable(page: Page) -> Response:
        await page.api.send("PATCH", path(page), {"disabled": True})
        return page.done("disabled")

    async def enable(page: Page) -> Response:
        await page.api.send("PATCH", path(page), {"disabled": False})
        return page.done("enabled")

    async def delete(page: Page) -> Response:
        await page.api.send("DELETE", path(page))
        return page.done("deleted")

    return {
        "disable": Action(disable, confirm=disabling),
        "enable": Action(enable),
        "delete": Action(delete, confirm=deleting),
    }
