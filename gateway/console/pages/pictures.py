"""The gallery, and one purchase as a receipt: picture, parameters, price, reuse, and the call that gives it again."""

from __future__ import annotations

import json
import shlex
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response

from gateway.console.api import ApiRefusal
from gateway.console.page import Action, Page, View

_PAGE = 48


async def gallery(page: Page) -> Response:
    query = page.query
    found = await page.api.get(
        "/admin/v1/pictures",
        mode=page.mode,
        limit=_PAGE,
        cursor=query.get("cursor"),
        q=query.get("q"),
        model=query.get("model"),
        user_id=query.get("user_id"),
        team_id=query.get("team_id"),
        seed=query.get("seed"),
        cached=query.get("cached"),
    )
    wanted = [row["user_id"] for row in found["data"]] + [query.get("user_id"), query.get("team_id")]
    return page.show(
        "gallery.html",
        pictures=found["data"],
        cursor=found["next_cursor"],
        prompts_kept=found["prompts_kept"],
        filtered=any(query.get(name) for name in ("q", "model", "user_id", "team_id", "seed", "cached")),
        names=await page.api.names(wanted),
    )


async def picture(page: Page) -> Response:
    receipt = await page.api.get(f"/admin/v1/generations/{page.id()}/receipt")
    names = await page.api.names([receipt["user_id"], receipt["team_id"], receipt["key_id"]])
    return page.show(
        "picture.html",
        receipt=receipt,
        names=names,
        snippets=snippets(page.base_url, receipt["repeat_body"]),
        shown=receipt_parameters(receipt["request"]),
    )


def receipt_parameters(request: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What was asked for beside the prompt, as a receipt lists it."""
    return [(name, _shown(value)) for name, value in (request or {}).items() if name not in {"prompt", "model"}]


def _shown(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"width", "height"}:
        return f"{value['width']} × {value['height']}"
    return value if isinstance(value, str) else json.dumps(value)


def image_id(address: str) -> str:
    """Of the picture at an address of ours, signed or not: its file's name."""
    return PurePosixPath(urlsplit(address).path).stem


def snippets(base: str, body: dict[str, Any] | None) -> list[tuple[str, str]]:
    """The same call as curl, Python and Node; none when the prompt was not kept."""
    if body is None:
        return []
    data = json.dumps(body, ensure_ascii=False, indent=2)
    curl = (
        f'curl {base}/v1/images/generations \\\n  -H "Authorization: Bearer $DARKROOM_API_KEY" \\\n'
        f"  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(data)}"
    )
    known = {name: value for name, value in body.items() if name in {"model", "prompt"}}
    extra = {name: value for name, value in body.items() if name not in known}
    named = "".join(f"    {name}={value!r},\n" for name, value in known.items())
    python = (
        "import os\n\nfrom openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{base}/v1", api_key=os.environ["DARKROOM_API_KEY"])\n'
        f"answer = client.images.generate(\n{named}    extra_body={extra!r},\n)\nprint(answer.data[0].url)"
    )
    return [("curl", curl), ("Python", python), ("Node", _node(base, body, data))]


def _node(base: str, body: Any, data: str) -> str:
    if _is_beyond_node(body):
        return (
            f'const answer = await fetch("{base}/v1/images/generations", {{\n  method: "POST",\n  headers: {{\n'
            '    Authorization: `Bearer ${process.env.DARKROOM_API_KEY}`,\n    "Content-Type": "application/json",\n'
            f"  }},\n  body: {json.dumps(data, ensure_ascii=False)}, // as text: its numbers are beyond JavaScript's\n"
            "}).then((response) => response.json());\nconsole.log(answer.data[0].url);"
        )
    return (
        'import OpenAI from "openai";\n\n'
        f'const client = new OpenAI({{ baseURL: "{base}/v1", apiKey: process.env.DARKROOM_API_KEY }});\n'
        f"const answer = await client.images.generate({data});\n"
        "console.log(answer.data[0].url);"
    )


def _is_beyond_node(value: Any) -> bool:
    """Whether a whole number is in it that JavaScript would round: a seed asks for another picture then."""
    if isinstance(value, dict):
        return any(_is_beyond_node(each) for each in value.values())
    if isinstance(value, list):
        return any(_is_beyond_node(each) for each in value)
    return isinstance(value, int) and abs(value) >= 2**53


async def thumbnail(page: Page) -> Response:
    """A picture in small, by the API's own permission. For callers: their own."""
    prefix = "/admin/v1" if page.is_administrator else "/v1"
    size = "640" if page.query.get("size") == "640" else "320"
    kept = page.request.headers.get("if-none-match")
    headers = {"if-none-match": kept} if kept else {}
    try:
        answer = await page.api.call(
            "GET", f"{prefix}/images/{page.id()}/thumbnail", params={"size": size}, headers=headers
        )
    except ApiRefusal as refusal:
        return Response(status_code=refusal.status)
    passed = {
        name: answer.headers[name] for name in ("content-type", "etag", "cache-control") if name in answer.headers
    }
    return Response(answer.content, status_code=answer.status_code, headers=passed)


async def purge(page: Page) -> Response:
    receipt = await page.api.get(f"/admin/v1/generations/{page.id()}/receipt")
    done = await page.api.send("POST", "/admin/v1/cache/purge", {"fingerprint": receipt["fingerprint"]})
    return page.done("purged" if done["purged"] else "nothing-purged")


async def settle(page: Page) -> Response:
    await _correct(page, "settle")
    return page.done("settled")


async def adjust(page: Page) -> Response:
    await _correct(page, "adjust")
    return page.done("adjusted")


async def _correct(page: Page, how: str) -> None:
    body = {"cost_usd": page.form.get("cost_usd", ""), "reason": page.form.get("reason", "")}
    await page.api.send("POST", f"/admin/v1/generations/{page.id()}/{how}", body)


_PURGE = (
    "The entry leaves the cache and its pictures are removed: their addresses answer 410, and the next equal call buys."
)

VIEWS = [
    View("gallery", gallery),
    View(
        "gallery/{id}",
        picture,
        {"purge": Action(purge, confirm=_PURGE), "settle": Action(settle), "adjust": Action(adjust)},
    ),
    View("thumbnails/{id}", thumbnail),
    View("my-thumbnails/{id}", thumbnail, for_administrators=False, for_callers=True),
]
