"""The console driven in a real Chromium, as its users would: every page, and what comes of a click."""

from __future__ import annotations

from decimal import Decimal

import pytest
from playwright.async_api import Browser, expect

from tests.support.administrators import Organisation
from tests.support.browser import PHONE, Window, window
from tests.support.console import signed_in
from tests.support.gateway import ADMIN_KEY

pytestmark = pytest.mark.browser


async def click(on: Window, name: str) -> None:
    await on.page.get_by_role("button", name=name, exact=True).click()


async def yes(on: Window, verb: str) -> None:
    """The answer to the question that comes before what can't be undone."""
    await on.page.get_by_role("dialog").get_by_role("button", name=verb).click()


async def issue_key(on: Window, user: str, *, mode: str) -> str:
    """A new key of a user, copied off the page that shows it once."""
    await on.go(f"{mode}/keys")
    await on.page.get_by_text(f"New {mode} key").click()
    await on.page.get_by_label("User", exact=True).select_option(label=user)
    await on.page.get_by_label("Name (optional)").fill("for the journey")
    await click(on, "Create key")
    await expect(on.page.get_by_role("heading", name="Created")).to_be_visible()
    return await on.page.locator("#the-key").inner_text()


async def test_a_key_is_issued_limited_spent_refused_and_its_picture_found_and_removed(
    world: Organisation, browser: Browser
) -> None:
    async with window(browser, world.gateway.base_url) as on:
        await on.sign_in(ADMIN_KEY)
        key = await issue_key(on, "Ours user", mode="test")

        await on.page.get_by_role("link", name="I have it").click()
        await on.page.get_by_label("Limit", exact=True).select_option("cost_usd")
        await on.page.get_by_label("Amount").fill("0.13")
        await on.page.get_by_label("Alert at, in %").fill("50, 100")
        await click(on, "Set limit")
        await expect(on.page.get_by_text("Saved.")).to_be_visible()

        answers = [
            await world.gateway.generate(key, seed=seed, prompt=f"A journey, part {seed}") for seed in (1, 2, 2, 3)
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        await on.page.reload()
        assert "$0.13 of $0.13" in await on.text()
        await on.page.get_by_role("link", name="Calls", exact=True).last.click()
        assert "quota exceeded" in await on.text()

        await on.go("test/gallery")
        await on.page.get_by_label("Prompt").fill("journey, part 2")
        await click(on, "Search")
        await expect(on.page.locator(".gallery li")).to_have_count(1)
        assert "used 2×" in await on.text()
        await on.page.locator(".gallery a").click()
        address = await on.page.get_by_role("link", name="Full size").get_attribute("href")
        assert (await world.gateway.get(str(address))).status_code == 200

        await click(on, "Remove picture")
        await yes(on, "Remove")
        await expect(on.page.get_by_text("This picture was removed.")).to_be_visible()
        assert (await world.gateway.get(str(address))).status_code == 410

        await on.go("test/usage?period=24h")
        async with on.page.expect_download() as downloading:
            await on.page.get_by_role("link", name="Download CSV").click()
        csv = (await (await downloading.value).path()).read_text().splitlines()
        assert csv[0].startswith("user,bucket,requests,hits")
        assert sum(Decimal(line.split(",")[8]) for line in csv[1:]) == Decimal("0.13")
        assert on.complaints == []
        assert on.elsewhere == []


async def test_what_is_asked_before_can_be_kept(world: Organisation, browser: Browser) -> None:
    async with window(browser, world.gateway.base_url) as on:
        await on.sign_in(ADMIN_KEY)
        await on.go(f"live/keys/{world.ours.key_id}")
        await click(on, "Delete")
        await on.page.get_by_role("dialog").get_by_role("button", name="Keep it").click()
        await expect(on.page.get_by_role("dialog")).to_be_hidden()
        assert (await world.gateway.admin("GET", f"/keys/{world.ours.key_id}"))["id"] == world.ours.key_id


async def test_several_keys_are_disabled_at_once(world: Organisation, browser: Browser) -> None:
    async with window(browser, world.gateway.base_url) as on:
        await on.sign_in(ADMIN_KEY)
        await on.go("live/keys")
        await on.page.get_by_label("Choose all").check()
        await click(on, "Disable chosen")
        await yes(on, "Disable")
        await expect(on.page.get_by_text("Disabled.")).to_be_visible()
        for team in (world.ours, world.theirs):
            assert (await world.gateway.generate(team.key, seed=1)).status_code == 403
        events = (await world.gateway.admin("GET", "/audit", action="key.update"))["data"]
        assert {event["object_id"] for event in events} == {world.ours.key_id, world.theirs.key_id}


async def test_the_playground_says_what_it_costs_and_makes_it(world: Organisation, browser: Browser) -> None:
    test_key = await world.gateway.new_key(user_id=world.ours.user_id, mode="test")
    async with window(browser, world.gateway.base_url) as on:
        await on.sign_in(ADMIN_KEY)
        await on.go("test/playground")
        await on.page.get_by_label("Prompt (required)").fill("A bowl of lemons")
        await on.page.get_by_label("Seed").fill("7")
        quote = on.page.locator("#quote")
        await expect(quote).to_contain_text("would be bought: 1 picture")
        await expect(quote).to_contain_text("$0.065")
        await click(on, "Make the picture")
        await expect(on.page.get_by_role("heading", name="Bought for $0.065")).to_be_visible()
        await expect(quote).to_contain_text("would hit")
        await click(on, "Make the picture")
        await expect(on.page.get_by_role("heading", name="From the cache, saved $0.065")).to_be_visible()
        assert on.complaints == []
        again = await world.gateway.generate(test_key, prompt="A bowl of lemons", seed=7)
        assert again.headers["cache-status"] == "darkroom; hit"
        [event] = (await world.gateway.admin("GET", "/audit", action="key.spend", limit=1))["data"]
        assert event["actor"] == "admin"


async def test_the_playground_says_why_it_was_refused(world: Organisation, browser: Browser) -> None:
    async with window(browser, world.gateway.base_url) as on:
        await on.sign_in(world.ours.key)
        await on.go("live/playground")
        await on.page.get_by_label("Prompt (required)").fill("x" * 4001)
        await click(on, "Make the picture")
        await expect(on.page.get_by_role("alert")).to_contain_text("Refused: invalid request")


async def test_a_caller_sees_its_own_and_nothing_else(world: Organisation, browser: Browser) -> None:
    async with window(browser, world.gateway.base_url) as on:
        await on.sign_in(world.ours.key)
        assert on.page.url.endswith("/console/live/mine")
        assert "$0.065" in await on.text()
        await on.go("live/pictures")
        assert "Of Ours" in await on.text()
        assert "Of Theirs" not in await on.text()
        await on.page.locator(".gallery a").click()
        await expect(on.page.get_by_role("heading", name="Receipt")).to_be_visible()
        for path in (f"live/pictures/{world.theirs.bought['id']}", "live/overview", "live/users", "test/mine"):
            await on.go(path)
            assert "Theirs" not in await on.text(), path
            assert "Not for you" in await on.text() or "There is no generation" in await on.text(), path


async def test_every_page_works_without_a_script(world: Organisation, browser: Browser) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    base = f"{world.gateway.base_url}/console"
    await page.goto(f"{base}/sign-in")
    await page.get_by_label("Key").fill(ADMIN_KEY)
    await page.get_by_role("button", name="Sign in").click()
    await page.goto(f"{base}/live/keys/{world.ours.key_id}")
    await page.get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("heading", name="Are you sure?")).to_be_visible()
    await page.get_by_role("button", name="Go on").click()
    await expect(page.get_by_text("Deleted.")).to_be_visible()
    assert (await world.gateway.try_admin("GET", f"/keys/{world.ours.key_id}")).status_code == 404
    await context.close()


async def test_on_a_phone_the_menu_opens_and_leads_on(world: Organisation, browser: Browser) -> None:
    async with window(browser, world.gateway.base_url, size=PHONE) as on:
        await on.sign_in(ADMIN_KEY)
        menu = on.page.get_by_role("navigation", name="Console")
        await expect(menu).to_be_hidden()
        await click(on, "Menu")
        await menu.get_by_role("link", name="Teams").click()
        await expect(on.page.get_by_role("heading", name="Teams", level=1)).to_be_visible()
        wide = await on.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= PHONE["width"], "nothing sticks out"


async def test_the_keyboard_alone_is_enough(world: Organisation, browser: Browser) -> None:
    async with window(browser, world.gateway.base_url) as on:
        await on.go("sign-in")
        await on.page.keyboard.type(ADMIN_KEY)
        await on.page.keyboard.press("Enter")
        await on.page.wait_for_url("**/overview")
        await on.page.keyboard.press("Tab")
        await expect(on.page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await on.page.keyboard.press("Enter")
        assert on.page.url.endswith("#main")


async def test_test_and_live_are_two_views(world: Organisation, browser: Browser) -> None:
    who = await signed_in(world.gateway)
    assert "Of Ours" in await who.text("live/gallery")
    async with window(browser, world.gateway.base_url) as on:
        await on.sign_in(ADMIN_KEY)
        await on.go("live/gallery")
        await on.page.get_by_role("group", name="View").get_by_role("link", name="Test").click()
        assert on.page.url.endswith("/console/test/gallery")
        assert "Test view" in await on.page.locator("body").inner_text()
        assert "No pictures yet" in await on.text()
