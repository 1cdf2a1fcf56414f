"""The playground: a form made of the model's own parameters, what it would cost before the click, and the picture.

A caller spends its own key's money; an administrator that of a key that it chooses, and the audit trail says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import HTMLResponse, Response

from gateway.console.api import ApiRefusal
from gateway.console.format import words
from gateway.console.page import Action, Page, View
from gateway.console.pages.pictures import image_id, snippets
from gateway.console.schema_form import form_fields, read_parameters
from gateway.console.templating import render
from gateway.errors import InvalidRequest

_HEADERS = (
    "cache-status", "age", "darkroom-cost-usd", "darkroom-saved-usd", "darkroom-generation-id", "darkroom-provider",
    "darkroom-mode", "ratelimit", "ratelimit-policy", "x-request-id", "retry-after",
)  # fmt: skip


async def playground(page: Page) -> Response:
    keys = await _keys(page)
    if keys is not None and not keys:
        return page.show("playground.html", keys=[], key_id="", models=[], model=None, fields=[])
    key_id = str(keys[0]["id"]) if keys else ""
    models = (await page.api.get(f"{_prefix(key_id)}/models"))["data"]
    model = _model(page, models)
    fields = [] if model is None else form_fields(model["parameters"], page.form or page.query)
    return page.show("playground.html", keys=keys, key_id=key_id, models=models, model=model, fields=fields)


async def _keys(page: Page) -> Sequence[Mapping[str, Any]] | None:
    """Those that an administrator may spend as; None for a caller, who has one."""
    if not page.is_administrator:
        return None
    found = (await page.api.get("/admin/v1/keys", mode=page.mode, limit=1000))["data"]
    wanted = page.form.get("key_id") or page.query.get("key_id", "")
    usable = [key for key in found if key["usable"] and key["id"] != wanted]
    if wanted:  # however old it is: no other pays in its place
        usable.insert(0, await _key(page, wanted))
    names = await page.api.names([key["user_id"] for key in usable])
    return [{**key, "user": names.get(key["user_id"], "")} for key in usable]


async def _key(page: Page, key_id: str) -> Mapping[str, Any]:
    """One that may be spent as here: in the view of tests no money is spent. Raises InvalidRequest."""
    key: Mapping[str, Any] = await page.api.get(f"/admin/v1/keys/{key_id}")
    if key["mode"] != page.mode:
        raise InvalidRequest(f"This is a {key['mode']} key: choose a {page.mode} one here.", param="key_id")
    if not key["usable"]:
        raise InvalidRequest(
            f"This key does not work ({words(key['unusable_because'])}): choose another.", param="key_id"
        )
    return key


def _prefix(key_id: str) -> str:
    return f"/admin/v1/keys/{key_id}" if key_id else "/v1"


def _model(page: Page, models: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    wanted = page.form.get("model") or page.query.get("model", "")
    return next((model for model in models if model["id"] == wanted), models[0] if models else None)


async def _body(page: Page) -> tuple[str, dict[str, Any]]:
    """Where to ask, and the request that the form makes."""
    key_id = ""
    if page.is_administrator:
        key_id = page.posted_id("key_id")
        if not key_id:
            raise InvalidRequest("Choose the key that pays.", param="key_id")
        await _key(page, key_id)
    models = (await page.api.get(f"{_prefix(key_id)}/models"))["data"]
    model = _model(page, models)
    if model is None:
        raise InvalidRequest("This key may use no model.", param="model")
    return _prefix(key_id), {"model": model["id"], **read_parameters(model["parameters"], page.form)}


async def quote(page: Page) -> Response:
    try:
        prefix, body = await _body(page)
    except (ApiRefusal, InvalidRequest) as refusal:
        return _fragment(page, "quote.html", quote=None, refusal=_for_script(page, refusal))
    try:
        answer = await page.api.send("POST", f"{prefix}/images/quote", body)
    except ApiRefusal as refusal:
        return _fragment(page, "quote.html", quote=None, refusal=refusal)
    return _fragment(page, "quote.html", quote=answer, refusal=None)


async def generate(page: Page) -> Response:
    try:
        prefix, body = await _body(page)
    except (ApiRefusal, InvalidRequest) as refusal:
        said = _for_script(page, refusal)
        return _fragment(page, "result.html", refusal=said, headers=[], snippets=[])
    try:
        answer = await page.api.call("POST", f"{prefix}/images/generations", json=body)
    except ApiRefusal as refusal:
        return _fragment(page, "result.html", refusal=refusal, **_result(page, body, refusal.headers, []))
    pictures = answer.json()["images"]
    return _fragment(page, "result.html", refusal=None, **_result(page, body, answer.headers, pictures))


def _for_script(page: Page, refusal: ApiRefusal | InvalidRequest) -> Mapping[str, Any]:
    """What made no request at all, as the script puts it into the page; without it the page itself is shown again."""
    if not _is_for_script(page):
        raise refusal
    return {"code": refusal.code, "message": refusal.message, "issues": []}


def _is_for_script(page: Page) -> bool:
    return "text/x-fragment" in page.request.headers.get("accept", "")


def _result(page: Page, body: dict[str, Any], headers: Mapping[str, str], pictures: Sequence[Any]) -> dict[str, Any]:
    generation_id = headers.get("darkroom-generation-id")
    return {
        "headers": [(name, headers[name]) for name in _HEADERS if name in headers],
        "pictures": pictures,
        "ids": [image_id(each["url"]) for each in pictures],
        "generation_id": generation_id,
        "snippets": snippets(page.base_url, body),
        "cost_usd": headers.get("darkroom-cost-usd"),
        "saved_usd": headers.get("darkroom-saved-usd"),
        "cache_status": headers.get("cache-status", ""),
    }


def _fragment(page: Page, template: str, **context: Any) -> Response:
    """For the script a part of the page, without it a page of its own."""
    if _is_for_script(page):
        return HTMLResponse(render(template, page=page, **context))
    return page.show("answered.html", part=template, **context)


VIEWS = [View("playground", playground, {"quote": Action(quote), "generate": Action(generate)}, for_callers=True)]
