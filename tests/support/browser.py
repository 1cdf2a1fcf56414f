"""A real Chromium, without a window and without a network but for this machine's."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1360, "height": 900}


def chromium() -> str:
    """Where it is. Raises RuntimeError that says how to get one."""
    names = [os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    found = next(filter(None, (shutil.which(name) for name in names if name)), None)
    if found is None:
        raise RuntimeError("there is no Chromium on this machine: scripts/install-browser.sh installs one")
    return found


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=_FLAGS)
        yield browser
        await browser.close()


class Window:
    """One visitor's window on the console. It keeps whatever a browser complains of, and where it sent requests."""

    def __init__(self, context: BrowserContext, page: Page, base_url: str) -> None:
        self.context = context
        self.page = page
        self.base_url = base_url
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._note)

    def _hear(self, message: ConsoleMessage) -> None:
        """What the browser says of a status of 400 and above is the page's own answer, no complaint."""
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def _note(self, request: Request) -> None:
        self.asked.append(request.url)

    @property
    def elsewhere(self) -> list[str]:
        """Requests that left the gateway."""
        return [url for url in self.asked if not url.startswith((self.base_url, "data:", "blob:"))]

    async def go(self, path: str) -> None:
        await self.page.goto(f"{self.base_url}/console/{path}", wait_until="networkidle")

    async def sign_in(self, key: str) -> None:
        await self.go("sign-in")
        await self.page.get_by_label("Key").fill(key)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.page.wait_for_url(lambda url: "sign-in" not in url)

    async def text(self) -> str:
        return await self.page.locator("main").inner_text()

    async def violations(self) -> list[str]:
        """What axe finds wrong with the page as it is now."""
        results = await Axe().run(self.page)
        return [
            f"{found['id']}: {node['html'][:200]} ({node['failureSummary']})"
            for found in results.response["violations"]
            for node in found["nodes"]
        ]


@asynccontextmanager
async def window(
    browser: Browser, base_url: str, *, size: dict[str, int] | None = None, dark: bool = False
) -> AsyncIterator[Window]:
    context = await browser.new_context(
        viewport=size or DESKTOP,  # type: ignore[arg-type]
        color_scheme="dark" if dark else "light",
        accept_downloads=True,
    )
    page = await context.new_page()
    page.set_default_timeout(20_000)
    yield Window(context, page, base_url)
    await context.close()
