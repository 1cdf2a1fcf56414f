"""Purchases whose pictures are there, newest first, and where a picture belongs: what galleries look at.

The pictures of one purchase are removed together, so its first stands for all of them. SQL gone: nothing can be shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.storage import image_index
from gateway.storage.database import now_ms
from gateway.storage.image_index import ImageRecord
from gateway.storage.paging import MAX_LIMIT, Page, cursor_of, filtered, is_id, read_page
from gateway.storage.tables import cache_entries, generations, images, reuses

Row = dict[str, Any]
Place = sa.Row[Any]
"""`id` and `created_ms` of a picture; `request`, the text of its parameters, if words are looked for."""
_text = sa.type_coerce(generations.c.request, sa.Text)
_PLAIN = re.compile(r"[ !#-\[\]-~]+")
"""Words of ASCII that JSON writes as they are."""
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
"""What JSON writes otherwise."""


@dataclass(frozen=True, slots=True)
class PictureFilter:
    """`words`: a part of the prompt, in any case. `prompt_names`, `seed_names`: what models call those parameters.

    `cached`: whether an entry of the cache shows the picture. The range of time is half-open.
    """

    prompt_names: Sequence[str]
    seed_names: Sequence[str]
    words: str | None = None
    seed: int | None = None
    model: str | None = None
    mode: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    key_id: str | None = None
    cached: bool | None = None
    from_ms: int | None = None
    to_ms: int | None = None


def list_pictures(conn: sa.Connection, asked: PictureFilter, *, limit: int, cursor: str | None) -> Page[Row]:
    """A row of each purchase: its first picture, how many there are, its parameters, its reuse. Raises InvalidRequest.

    What a prompt says is not indexed. SQL leaves out what can't match; the rest is looked at here, piece by piece.
    """
    page = _chosen(conn, asked, limit=limit, cursor=cursor)
    return Page(_rows(conn, [row.id for row in page.data]), page.next_cursor)


def find(
    conn: sa.Connection,
    image_id: str,
    *,
    mode: str | None = None,
    user_id: str | None = None,
    team_id: str | None = None,
) -> ImageRecord | None:
    """A picture by its id, if its purchase is of that mode, user and team."""
    i, g = images.c, generations.c
    if not is_id(image_id):
        return None
    query = sa.select(images).join(generations, g.id == i.generation_id).where(i.id == image_id)
    query = filtered(query, {g.mode: mode, g.user_id: user_id, g.team_id: team_id})
    row = conn.execute(query).mappings().one_or_none()
    return None if row is None else image_index.record(row)


def is_cached(conn: sa.Connection, generation_id: str) -> bool:
    return bool(conn.execute(sa.select(_cached(sa.literal(generation_id), now_ms(conn)))).scalar_one())


def _chosen(conn: sa.Connection, asked: PictureFilter, *, limit: int, cursor: str | None) -> Page[Place]:
    query = _choice(asked, now_ms(conn))
    if asked.words is None and asked.seed is None:
        return _page(conn, query, limit=limit, cursor=cursor)
    query = query.add_columns(_text.label("request"))
    found: list[Place] = []
    at_once = min(limit + 1, MAX_LIMIT)
    while True:
        page = _page(conn, query, limit=at_once, cursor=cursor)
        found += [row for row in page.data if _matches(row.request, asked)]
        if len(found) > limit:
            return Page(found[:limit], cursor_of(found[limit - 1].created_ms, found[limit - 1].id))
        if page.next_cursor is None:
            return Page(found, None)
        cursor, at_once = page.next_cursor, MAX_LIMIT


def _choice(asked: PictureFilter, now: int) -> sa.Select[Any]:
    i, g = images.c, generations.c
    query = sa.select(i.id, i.created_ms).join(generations, g.id == i.generation_id)
    query = query.where(i.position == sa.literal_column("0"), i.removed_ms.is_(None), *_bounds(asked, now))
    return filtered(query, {g[name]: getattr(asked, name) for name in ("mode", "user_id", "key_id")})


def _rows(conn: sa.Connection, image_ids: Sequence[str]) -> list[Row]:
    i, g, every = images.c, generations.c, images.alias()
    count = sa.select(sa.func.count()).select_from(every).where(every.c.generation_id == g.id).scalar_subquery()
    query = (
        sa.select(
            *(i[name] for name in ("id", "created_ms", "extension", "content_type", "width", "height", "size_bytes")),
            i.sha256,
            g.id.label("generation_id"),
            *(g[name] for name in ("model", "mode", "user_id", "key_id", "team_id", "request", "cost_micro_usd")),
            count.label("images"),
            _cached(g.id, now_ms(conn)).label("cached"),
            sa.func.coalesce(reuses.c.times, 0).label("reused"),
            sa.func.coalesce(reuses.c.saved_micro_usd, 0).label("saved_micro_usd"),
        )
        .join(generations, g.id == i.generation_id)
        .outerjoin(reuses, reuses.c.generation_id == g.id)
        .where(i.id.in_(image_ids))
        .order_by(i.created_ms.desc(), i.id.desc())
    )
    return [dict(row) for row in conn.execute(query).mappings()]


def _bounds(asked: PictureFilter, now: int) -> Iterator[sa.ColumnElement[bool]]:
    i, g = images.c, generations.c
    if asked.from_ms is not None:
        yield i.created_ms >= asked.from_ms
    if asked.to_ms is not None:
        yield i.created_ms < asked.to_ms
    if asked.model is not None:
        yield g.model == asked.model if "\0" not in asked.model else sa.false()
    if asked.team_id is not None:  # a team has more purchases than there are pictures: not by its index
        yield g.team_id.concat("") == asked.team_id if is_id(asked.team_id) else sa.false()
    if asked.cached is not None:
        cached = _cached(g.id, now)
        yield cached if asked.cached else ~cached
    if asked.seed is not None:
        yield sa.or_(*(_text.contains(f'"{name}":{asked.seed}', autoescape=True) for name in asked.seed_names))
    if asked.words is not None:
        yield _text.is_not(None)
        for words in _PLAIN.findall(asked.words):
            yield _text.icontains(words, autoescape=True)


def _cached(generation_id: sa.ColumnElement[str], now: int) -> sa.ColumnElement[bool]:
    c = cache_entries.c
    return sa.exists().where(c.generation_id == generation_id, sa.or_(c.expires_ms.is_(None), c.expires_ms > now))


def _matches(request: str, asked: PictureFilter) -> bool:
    """What SQL can only guess from the text of all parameters, most of which can be refused before it is decoded."""
    words = None if asked.words is None else asked.words.casefold()
    if words is not None and not _ESCAPED.search(words) and words not in request.casefold():
        return False
    parameters = msgspec.json.decode(request)
    if asked.seed is not None and all(parameters.get(name) != asked.seed for name in asked.seed_names):
        return False
    said = [parameters.get(name) for name in asked.prompt_names]
    return words is None or any(words in prompt.casefold() for prompt in said if isinstance(prompt, str))


def _page(conn: sa.Connection, query: sa.Select[Any], *, limit: int, cursor: str | None) -> Page[Place]:
    order = (images.c.created_ms, images.c.id)
    return read_page(conn, query, order=order, convert=lambda row: row, limit=limit, cursor=cursor)
