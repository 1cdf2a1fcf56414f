"""`make screenshots`: every page of the console, of a gateway with sample traffic in it, into docs/screenshots."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.async_api import Browser

from tests.support.browser import DESKTOP, PHONE, Window, running_browser, window
from tests.support.gateway import ADMIN_KEY
from tests.support.ports import free_port
from tests.support.waiting import until

HERE = Path(__file__).parents[2]
FOLDER = HERE / "docs" / "screenshots"
TALLEST = {"desktop": 1800, "phone": 2600}
PAGES = {
    "overview": "test/overview?period=7d",
    "usage": "test/usage?group=tag:app&period=7d",
    "calls": "test/calls?period=7d",
    "limits": "test/limits",
    "statements": "test/statements",
    "gallery": "test/gallery",
    "picture": "test/gallery/{generation}",
    "playground": "test/playground?prompt=A+lighthouse+at+dawn%2C+long+exposure&seed=42",
    "teams": "test/teams",
    "team": "test/teams/{team}",
    "users": "test/users",
    "user": "test/users/{user}",
    "keys": "test/keys",
    "key": "test/keys/{key}",
    "administrators": "test/administrators",
    "providers": "test/providers",
    "purchases": "test/purchases",
    "alerts": "test/alerts",
    "audit": "test/audit",
}
OWN = {"my-usage": "test/mine", "my-pictures": "test/pictures"}


async def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        base_url = f"http://127.0.0.1:{(port := free_port())}"
        settings = {
            "server": {"port": port},
            "data_dir": f"{folder}/data",
            "security": {"admin_key": ADMIN_KEY},
            "providers": [{"name": "aimlapi", "kind": "aimlapi", "api_keys": [{"value": "not-a-key"}]},
                          {"kind": "sandbox", "delay_s": 0.3}],
        }  # fmt: skip
        (Path(folder) / "config.yaml").write_text(json.dumps(settings))
        command = [sys.executable, "-m", "gateway", "--config", f"{folder}/config.yaml"]
        serving = subprocess.Popen([*command, "serve"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
        try:
            async with httpx.AsyncClient(base_url=base_url) as http:
                await until(lambda: _is_ready(http))
                told = {**os.environ, "DARKROOM_BASE_URL": base_url, "DARKROOM_ADMIN_KEY": ADMIN_KEY}
                traffic = [*command, "demo", "traffic", "--seconds", "20"]
                await asyncio.to_thread(subprocess.run, traffic, env=told, check=True)
                await _administrators(http)
                named, key = await _some(http)
            async with running_browser() as browser:
                for size in ("desktop", "phone"):
                    await _shoot(browser, base_url, size, named, key)
        finally:
            serving.terminate()
            serving.wait()


async def _is_ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).is_success
    except httpx.TransportError:
        return False


async def _administrators(http: httpx.AsyncClient) -> None:
    for name, role in (("Jean Bartik", "operator"), ("Finance", "viewer")):
        await _admin(http, "POST", "/administrators", {"name": name, "role": role})


async def _some(http: httpx.AsyncClient) -> tuple[dict[str, str], str]:
    """One of each kind to be shown, and the text of a caller's key."""
    pictures = (await _admin(http, "GET", "/pictures?mode=test&limit=200"))["data"]
    picture = max(pictures, key=lambda each: each["reused"])
    made = await _admin(http, "POST", "/keys", {"user_id": picture["user_id"], "mode": "test", "name": "laptop"})
    named = {name: picture[f"{name}_id"] for name in ("generation", "user", "key", "team")}
    return named, made["key"]


async def _admin(http: httpx.AsyncClient, method: str, path: str, body: Any = None) -> Any:
    answer = await http.request(method, f"/admin/v1{path}", json=body, headers={"authorization": f"Bearer {ADMIN_KEY}"})
    answer.raise_for_status()
    return answer.json()


async def _shoot(browser: Browser, base_url: str, size: str, named: dict[str, str], key: str) -> None:
    viewport = PHONE if size == "phone" else DESKTOP
    async with window(browser, base_url, size=viewport) as on:
        await on.go("sign-in")
        await _keep(on, f"sign-in-{size}", TALLEST[size])
        await on.sign_in(ADMIN_KEY)
        for name, path in PAGES.items():
            await on.go(path.format(**named))
            await _keep(on, f"{name}-{size}", TALLEST[size])
    async with window(browser, base_url, size=viewport) as on:
        await on.sign_in(key)
        for name, path in OWN.items():
            await on.go(path)
            await _keep(on, f"{name}-{size}", TALLEST[size])
    async with window(browser, base_url, size=viewport, dark=True) as on:
        await on.sign_in(ADMIN_KEY)
        for name in ("overview", "gallery", "picture"):
            await on.go(PAGES[name].format(**named))
            await _keep(on, f"{name}-{size}-dark", TALLEST[size])


async def _keep(on: Window, name: str, tallest: int) -> None:
    """As WebP, cut below. Pictures further down are loaded first."""
    await on.page.evaluate("document.querySelectorAll('img[loading]').forEach((each) => { each.loading = 'eager' })")
    await on.page.wait_for_load_state("networkidle")
    shot = Image.open(io.BytesIO(await on.page.screenshot(full_page=True)))
    shot.crop((0, 0, shot.width, min(shot.height, tallest))).convert("RGB").save(FOLDER / f"{name}.webp", quality=82)
    sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    asyncio.run(main())
