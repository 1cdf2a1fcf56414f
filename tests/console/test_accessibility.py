"""Every page as a browser and axe judge it: no violation in light and dark, nothing asked of another host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.console.test_roles import OWN, PAGES, places
from tests.support.administrators import Organisation, organisation
from tests.support.browser import PHONE, Window, window
from tests.support.gateway import ADMIN_KEY

pytestmark = pytest.mark.browser
LIMITS = [
    {"metric": "cost_usd", "window": "month", "amount": "0.07", "alert_at": [80, 100]},
    {"metric": "requests", "window": "minute", "amount": "100"},
]


@pytest.fixture
async def full(tmp_path: Path) -> AsyncIterator[Organisation]:
    """With something on every page: limits near their end, a refusal, a lost answer, a hook, an alert to come."""
    async with organisation(tmp_path / "data") as world:
        gateway = world.gateway
        await gateway.admin("PUT", f"/users/{world.ours.user_id}/limits", LIMITS)
        await gateway.admin(
            "POST",
            "/webhooks",
            {"name": "Pager", "url": "http://127.0.0.1:9/services/a/path/that/is/as/long/as/those/of/chats/are"},
        )
        await gateway.generate(world.ours.key, seed=1, prompt="Of Ours", headers={"darkroom-tags": "app=search"})
        await gateway.generate(world.ours.key, seed=77)
        yield world


async def look(on: Window, path: str) -> list[str]:
    await on.go(path)
    found = [f"{path}: {violation}" for violation in await on.violations()]
    wide = await on.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    return [*found, f"{path}: sticks out"] if wide else found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
async def test_axe_finds_nothing_on_any_page(full: Organisation, browser: Browser, *, dark: bool, phone: bool) -> None:
    size = PHONE if phone else None
    named = await places(full)
    async with window(browser, full.gateway.base_url, size=size, dark=dark) as on:
        found = await look(on, "sign-in")
        await on.sign_in(ADMIN_KEY)
        for path in (*PAGES, "nothing-here"):
            if not path.startswith("thumbnails"):
                found += await look(on, f"live/{path.format(**named)}")
        assert found == []
        assert on.complaints == []
        assert on.elsewhere == []
    async with window(browser, full.gateway.base_url, size=size, dark=dark) as on:
        await on.sign_in(full.ours.key)
        found = [
            each
            for path in sorted(OWN)
            if "thumb" not in path
            for each in await look(on, f"live/{path.format(**named)}")
        ]
        assert found == []
        assert on.complaints == []
        assert on.elsewhere == []


async def test_the_first_page_is_light(full: Organisation, browser: Browser) -> None:
    async with window(browser, full.gateway.base_url) as on:
        sizes: list[int] = []
        session = await on.context.new_cdp_session(on.page)
        await session.send("Network.enable")
        session.on("Network.loadingFinished", lambda event: sizes.append(int(event["encodedDataLength"])))
        await on.sign_in(ADMIN_KEY)
        await on.page.wait_for_load_state("networkidle")
        assert 0 < sum(sizes) < 100_000, "bytes of the door and the overview, compressed"
