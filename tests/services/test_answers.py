"""Answers that are kept, the addresses of their pictures, and their bytes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.errors import ImageRemoved
from gateway.services.answers import AnswerCache, AnswerRenderer, ImageLinks
from gateway.storage import response_cache
from gateway.storage.database import Database
from gateway.storage.images import LocalImageStore
from gateway.storage.response_cache import Entry, MemoryAnswers
from gateway.storage.shared_answers import NothingShared
from tests.support.ledger import stored_answer, stored_image

BASE = "https://images.test"
IMAGE = stored_image()
NOW_S = 1_000_000


def links(*secrets: bytes, expire_s: int | None = None) -> ImageLinks:
    return ImageLinks(BASE, secrets=secrets or (b"secret",), expire_s=expire_s)


def allowed(checker: ImageLinks, address: str, *, image_id: str = IMAGE.id, now_s: int = NOW_S) -> bool:
    query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    return checker.allows(image_id, expires=query.get("expires"), signature=query.get("signature"), now_s=now_s)


def test_a_permanent_address_is_the_pictures_id_alone():
    permanent = links()
    assert permanent.address(IMAGE, now_s=NOW_S) == f"{BASE}/images/{IMAGE.id}.jpg"
    assert permanent.permanent
    assert permanent.allows(IMAGE.id, expires=None, signature=None, now_s=NOW_S)


def test_a_signed_address_works_until_it_expires():
    signed = links(expire_s=60)
    address = signed.address(IMAGE, now_s=NOW_S)
    assert not signed.permanent
    assert allowed(signed, address)
    assert allowed(signed, address, now_s=NOW_S + 60)
    assert not allowed(signed, address, now_s=NOW_S + 61)


def test_a_signed_address_is_good_for_its_picture_and_moment_alone():
    signed = links(expire_s=60)
    address = signed.address(IMAGE, now_s=NOW_S)
    assert not allowed(signed, address, image_id=stored_image().id)
    assert not allowed(signed, address.replace(f"expires={NOW_S + 60}", f"expires={NOW_S + 9999}"))
    assert not allowed(signed, address[:-1] + ("A" if address[-1] != "A" else "B"))
    assert not allowed(links(b"another", expire_s=60), address)


@pytest.mark.parametrize(
    ("expires", "signature"),
    [(None, None), ("", ""), ("1000060", None), (None, "x"), ("²", "x"), ("-5", "x"), ("1e9", "x"), ("9" * 5000, "ä")],
)
def test_what_is_no_signed_address_is_refused(expires: str | None, signature: str | None):
    assert not links(expire_s=60).allows(IMAGE.id, expires=expires, signature=signature, now_s=NOW_S)


def test_an_old_secret_still_checks_and_the_first_signs():
    address = links(b"old", expire_s=60).address(IMAGE, now_s=NOW_S)
    renewed = links(b"new", b"old", expire_s=60)
    assert allowed(renewed, address)
    assert allowed(links(b"new", expire_s=60), renewed.address(IMAGE, now_s=NOW_S))
    assert not allowed(links(b"new", expire_s=60), address)


async def test_an_entry_is_read_from_sql_once_and_then_held_until_it_is_dropped(database: Database):
    cache = AnswerCache(database, MemoryAnswers(10_000), NothingShared())
    assert await cache.find("fp") is None
    entry = Entry("fp", stored_answer("gen_1", IMAGE), 1000, None)
    owner = {"mode": "live", "model": "flux-pro", "user_id": "user_1"}
    await database.write(lambda conn: response_cache.put(conn, entry, **owner))
    assert cache.held("fp") is None
    found = await cache.find("fp")
    assert found is not None
    assert found.entry == entry
    assert cache.held("fp") is await cache.find("fp") is found
    cache.on_change("key", "fp")
    assert cache.held("fp") is found
    cache.on_change("cache", "fp")
    assert cache.held("fp") is None
    await cache.find("fp")
    cache.clear()
    assert cache.held("fp") is None


async def test_an_answer_is_rendered_with_addresses_or_bytes(tmp_path: Path):
    store = LocalImageStore(tmp_path)
    await store.put(IMAGE.sha256, b"picture")
    renderer = AnswerRenderer(links(), store)
    answer = stored_answer("gen_1", IMAGE)
    by_url = json.loads(await renderer.body(answer, "url", prompt="A fox", now_s=NOW_S))
    assert by_url["data"][0]["url"] == f"{BASE}/images/{IMAGE.id}.jpg"
    by_bytes = json.loads(await renderer.body(answer, "b64_json", prompt="A fox", now_s=NOW_S))
    assert base64.b64decode(by_bytes["data"][0]["b64_json"]) == b"picture"
    assert "url" not in by_bytes["data"][0]


async def test_bytes_that_are_gone_are_an_error_and_addresses_are_not(tmp_path: Path):
    renderer = AnswerRenderer(links(expire_s=60), LocalImageStore(tmp_path))
    answer = stored_answer("gen_1", IMAGE)
    assert await renderer.body(answer, "url", prompt="A fox", now_s=NOW_S)
    with pytest.raises(ImageRemoved):
        await renderer.body(answer, "b64_json", prompt="A fox", now_s=NOW_S)


@pytest.mark.parametrize("expire_s", [None, 60])
def test_bodies_are_reusable_only_while_addresses_last(tmp_path: Path, expire_s: int | None):
    assert AnswerRenderer(links(expire_s=expire_s), LocalImageStore(tmp_path)).reusable is (expire_s is None)
