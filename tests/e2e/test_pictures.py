"""The gallery over HTTP: found, shown small, told in full, and gone when removed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.gateway import ADMIN_KEY, Gateway, gateway_and_provider


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_and_provider(tmp_path) as (running, _):
        yield running


async def pictures(gateway: Gateway, **params: Any) -> list[dict[str, Any]]:
    page: list[dict[str, Any]] = (await gateway.admin("GET", "/pictures", **params))["data"]
    return page


async def test_a_bought_picture_is_found_with_what_it_cost_and_saved(gateway: Gateway):
    key = await gateway.new_key()
    for _ in range(3):
        assert (await gateway.generate(key, seed=5, prompt="A red Fox in snow")).is_success
    assert (await gateway.generate(key, prompt="A hare")).is_success
    await gateway.usage()  # brings the hits into SQL
    [fox] = await pictures(gateway, q="red fox")
    assert (fox["prompt"], fox["seed"], fox["cached"]) == ("A red Fox in snow", 5, True)
    assert (fox["cost_usd"], fox["reused"], fox["saved_usd"]) == ("0.065", 2, "0.13")
    assert (await gateway.get(fox["url"])).is_success
    assert [row["prompt"] for row in await pictures(gateway)] == ["A hare", "A red Fox in snow"]
    assert [row["prompt"] for row in await pictures(gateway, cached="false")] == ["A hare"]
    assert await pictures(gateway, mode="test") == []


async def test_where_prompts_are_not_kept_none_is_found_and_it_says_so(tmp_path: Path):
    async with gateway_and_provider(tmp_path, privacy={"store_prompts": "hash"}) as (gateway, _):
        await gateway.generate(await gateway.new_key(), prompt="A fox")
        found = await gateway.admin("GET", "/pictures", q="fox")
        assert (found["data"], found["prompts_kept"]) == ([], False)
        [row] = await pictures(gateway)
        assert row["prompt"] is None
        receipt = await gateway.admin("GET", f"/generations/{row['generation_id']}/receipt")
        assert receipt["repeat_body"] is None


async def test_a_receipt_tells_all_and_its_body_asks_for_the_same_picture_again(gateway: Gateway):
    key = await gateway.new_key()
    first = await gateway.generate(key, seed=5, prompt="A fox")
    [row] = await pictures(gateway)
    receipt = await gateway.admin("GET", f"/generations/{row['generation_id']}/receipt")
    assert receipt["images"] == [
        {
            "id": row["image_id"], "url": row["url"], "extension": row["extension"], "width": row["width"],
            "content_type": row["content_type"], "height": row["height"], "size_bytes": row["size_bytes"],
            "removed": False,
        }
    ]  # fmt: skip
    assert (receipt["cost_usd"], receipt["cached"], receipt["adjustments"]) == ("0.065", True, [])
    again = await gateway.post(key, receipt["repeat_body"])
    assert again.headers["cache-status"] == "darkroom; hit"
    assert again.json()["images"] == first.json()["images"]
    assert (await gateway.try_admin("GET", "/generations/gen_none/receipt")).status_code == 404


async def thumbnail(gateway: Gateway, path: str, key: str, **headers: str) -> Any:
    return await gateway.get(path, key, **headers)


async def test_a_thumbnail_is_small_known_by_its_tag_and_gone_with_its_picture(gateway: Gateway):
    key = await gateway.new_key()
    await gateway.generate(key, seed=5)
    [row] = await pictures(gateway)
    path = f"/admin/v1/images/{row['image_id']}/thumbnail"
    shown = await thumbnail(gateway, path, ADMIN_KEY)
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")
    assert max(Image.open(BytesIO(shown.content)).size) == 320
    assert shown.headers["cache-control"] == "private, max-age=86400"
    large = await thumbnail(gateway, f"{path}?size=640", ADMIN_KEY)
    assert max(Image.open(BytesIO(large.content)).size) == 640
    known = await thumbnail(gateway, path, ADMIN_KEY, **{"if-none-match": shown.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    assert (await thumbnail(gateway, f"{path}?size=64", ADMIN_KEY)).status_code == 400
    await gateway.admin("POST", "/cache/purge", {"model": "flux-pro"})
    gone = await thumbnail(gateway, path, ADMIN_KEY, **{"if-none-match": shown.headers["etag"]})
    assert (gone.status_code, gone.json()["error"]["code"]) == (410, "image_removed")
    assert await pictures(gateway) == []
    receipt = await gateway.admin("GET", f"/generations/{row['generation_id']}/receipt")
    assert [(image["removed"], image["url"]) for image in receipt["images"]] == [(True, None)]


async def test_a_caller_sees_its_users_pictures_of_its_mode_and_no_others(gateway: Gateway):
    mine, others = await gateway.new_user(), await gateway.new_key()
    key, second = await gateway.new_key(user_id=mine), await gateway.new_key(user_id=mine)
    test = await gateway.new_key(user_id=mine, mode="test")
    for number, caller in enumerate((key, second, test, others), 1):
        assert (await gateway.generate(caller, seed=number, prompt=f"Fox {number}")).is_success
    page = (await gateway.get("/v1/generations?q=fox", key)).json()
    assert [row["prompt"] for row in page["data"]] == ["Fox 2", "Fox 1"]
    assert "user_id" not in page["data"][0]
    [own] = (await gateway.get("/v1/generations?seed=3", test)).json()["data"]
    for caller, status in ((test, 200), (key, 404), (others, 404)):
        answer = await thumbnail(gateway, f"/v1/images/{own['image_id']}/thumbnail", caller)
        assert answer.status_code == status
    assert (await gateway.get("/v1/generations")).status_code == 401
