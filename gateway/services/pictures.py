"""The gallery: purchases whose pictures are there, found by what they show and who bought them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.domain.answer import StoredImage
from gateway.domain.model import Model
from gateway.services.answers import ImageLinks
from gateway.storage import pictures
from gateway.storage.database import Database
from gateway.storage.paging import Page
from gateway.storage.pictures import PictureFilter


class Pictures:
    """`models`: what each calls its prompt and its seed. `prompts_kept`: whether there are prompts to be found."""

    def __init__(
        self, database: Database, links: ImageLinks, models: Mapping[str, Model], *, prompts_kept: bool
    ) -> None:
        self.prompts_kept = prompts_kept
        self._database = database
        self._links = links
        roles = [model.roles for model in models.values()]
        self._prompt_names = _known("prompt", (role.prompt for role in roles))
        self._seed_names = _known("seed", (role.seed for role in roles))

    async def list(self, *, limit: int, cursor: str | None, now_s: int, **filters: Any) -> Page[dict[str, Any]]:
        """Newest first: rows of `storage.pictures`, with `prompt`, `seed` and `url`. `filters`: those of PictureFilter.

        Raises InvalidRequest.
        """
        asked = PictureFilter(prompt_names=self._prompt_names, seed_names=self._seed_names, **filters)
        page = await self._database.read(lambda conn: pictures.list_pictures(conn, asked, limit=limit, cursor=cursor))
        return Page([self._shown(row, now_s) for row in page.data], page.next_cursor)

    def _shown(self, row: dict[str, Any], now_s: int) -> dict[str, Any]:
        image = StoredImage(**{name: row[name] for name in StoredImage.__struct_fields__})
        return {
            **row,
            "prompt": self.prompt_of(row["request"]),
            "seed": _first(row["request"], self._seed_names),
            "url": self._links.address(image, now_s=now_s),
        }

    def prompt_of(self, request: Mapping[str, Any] | None) -> str | None:
        """None: it was not kept."""
        prompt: str | None = _first(request, self._prompt_names)
        return prompt


def _known(usual: str, names: Iterable[str | None]) -> list[str]:
    """The usual name stays known: of a model that is no longer served there are pictures still."""
    return list(dict.fromkeys([usual, *(name for name in names if name is not None)]))


def _first(request: Mapping[str, Any] | None, names: Iterable[str]) -> Any:
    return next((request[name] for name in names if name in request), None) if request else None
