"""Which purchases a gallery finds, on both engines."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.storage import image_index, pictures, tables
from gateway.storage.database import Database
from gateway.storage.generations import Intent
from gateway.storage.paging import Page
from gateway.storage.pictures import PictureFilter
from tests.support.ledger import Books, flight, intent, stored_image


class Gallery:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.books = Books(database)

    async def add(self, *, pictures: int = 1, cached: bool = False, request: Any = None, **changes: Any) -> Intent:
        """A purchase that was delivered, each later than the one before."""
        request = request or {"prompt": "A lighthouse"}
        made = flight(f"fp-{len(await self.books.rows(tables.images))}", request=request, **changes)
        made = made if cached else intent(request=request, **changes)
        await self.books.reserve_answered(made)
        await self.books.publish(made, *(stored_image(f"{made.id}-{place}") for place in range(pictures)))
        return made

    async def page(self, *, limit: int = 100, cursor: str | None = None, **asked: Any) -> Page[dict[str, Any]]:
        chosen = PictureFilter(prompt_names=["prompt", "text"], seed_names=["seed"], **asked)
        return await self.database.read(lambda conn: pictures.list_pictures(conn, chosen, limit=limit, cursor=cursor))

    async def ids(self, **asked: Any) -> list[str]:
        return [row["generation_id"] for row in (await self.page(**asked)).data]

    async def empty(self) -> None:
        def work(conn: sa.Connection) -> None:
            for table in (tables.generations, tables.images, tables.blobs):
                conn.execute(sa.delete(table))

        await self.database.write(work)

    async def remove(self, made: Intent) -> None:
        await self.database.write(lambda conn: image_index.remove_generations(conn, [made.id], now_ms=5))


@pytest.fixture
def gallery(database: Database) -> Gallery:
    return Gallery(database)


async def test_a_row_tells_the_first_picture_how_many_and_what_became_of_it(gallery: Gallery):
    made = await gallery.add(pictures=3, cached=True, request={"prompt": "A fox", "seed": 7})
    await gallery.database.write(
        lambda conn: conn.execute(
            tables.reuses.insert().values(generation_id=made.id, times=2, saved_micro_usd=130_000)
        )
    )
    [row] = (await gallery.page()).data
    first = (await gallery.database.read(lambda conn: image_index.of_generation(conn, made.id)))[0].image
    assert (row["id"], row["sha256"], row["images"]) == (first.id, first.sha256, 3)
    assert (row["reused"], row["saved_micro_usd"], bool(row["cached"])) == (2, 130_000, True)
    assert (row["user_id"], row["request"]) == ("user_1", {"prompt": "A fox", "seed": 7})


async def test_what_was_removed_or_brought_no_picture_is_not_there(gallery: Gallery):
    gone, kept = await gallery.add(), await gallery.add()
    await gallery.books.fail(await gallery.books.sent())
    await gallery.remove(gone)
    assert await gallery.ids() == [kept.id]


async def test_pages_follow_each_other_newest_first_with_words_and_without(gallery: Gallery):
    made = [await gallery.add(request={"prompt": f"Fox {place}"}) for place in range(5)]
    other = await gallery.add(request={"prompt": "A hare"})
    for asked, wanted in (({}, [*made, other]), ({"words": "fox"}, made)):
        seen: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = await gallery.page(limit=2, cursor=cursor, **asked)
            seen += page.data
            cursor = page.next_cursor
            if cursor is None:
                break
        assert {row["generation_id"] for row in seen} == {each.id for each in wanted}
        assert len(seen) == len(wanted)
        places = [(row["created_ms"], row["id"]) for row in seen]
        assert places == sorted(places, reverse=True)


async def test_each_filter_finds_its_own(gallery: Gallery):
    one = await gallery.add(user_id="user_2", team_id="team_2", key_id="key_2", model="other/model-2", mode="test")
    two = await gallery.add(cached=True, request={"prompt": "A fox", "seed": 12})
    three = await gallery.add(request={"text": "A fox", "seed": 123})
    for asked, wanted in (
        ({"user_id": "user_2"}, {one.id}),
        ({"team_id": "team_2"}, {one.id}),
        ({"key_id": "key_2"}, {one.id}),
        ({"model": "other/model-2"}, {one.id}),
        ({"mode": "live"}, {two.id, three.id}),
        ({"cached": True}, {two.id}),
        ({"cached": False}, {one.id, three.id}),
        ({"seed": 12}, {two.id}),
        ({"seed": 12, "words": "hare"}, set()),
        ({"words": "fox"}, {two.id, three.id}),
        ({"user_id": "user_1", "words": "FOX", "seed": 123}, {three.id}),
        ({"model": "nul\0"}, set()),
        ({"team_id": "nul\0"}, set()),
        ({"to_ms": 1}, set()),
        ({"from_ms": 1}, {one.id, two.id, three.id}),
    ):
        assert set(await gallery.ids(**asked)) == wanted, asked


async def test_words_are_those_of_the_prompt_not_of_other_parameters(gallery: Gallery):
    await gallery.add(request={"prompt": "A hare", "output_format": "jpeg"})
    assert await gallery.ids(words="jpeg") == []
    assert await gallery.ids(words="prompt") == []
    await gallery.add(request={"output_format": "jpeg"})  # its prompt was not kept
    assert len(await gallery.ids()) == 2


_SAID = st.text(st.sampled_from('aA é"\\%_/\n\0{}:,É雪'), min_size=1, max_size=8)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompts=st.lists(_SAID, min_size=1, max_size=3), words=_SAID)
async def test_a_prompt_is_found_by_every_part_of_it_in_any_case(gallery: Gallery, prompts: list[str], words: str):
    await gallery.empty()
    made = {(await gallery.add(request={"prompt": prompt, "n": "aé"})).id: prompt for prompt in prompts}
    wanted = {made_id for made_id, prompt in made.items() if words.casefold() in prompt.casefold()}
    assert set(await gallery.ids(words=words)) == wanted


async def test_a_picture_is_found_within_its_mode_user_and_team_alone(gallery: Gallery):
    made = await gallery.add()
    [row] = (await gallery.page()).data

    async def found(image_id: str = row["id"], **asked: str) -> bool:
        return await gallery.database.read(lambda conn: pictures.find(conn, image_id, **asked)) is not None

    assert await found()
    assert await found(mode="live", user_id="user_1", team_id="team_1")
    for asked in ({"mode": "test"}, {"user_id": "user_2"}, {"team_id": "team_2"}, {"image_id": "no\0pe"}):
        assert not await found(**asked), asked
    await gallery.remove(made)
    record = await gallery.database.read(lambda conn: pictures.find(conn, row["id"]))
    assert record is not None
    assert record.removed
