"""`/docs` without a CDN: a page made from the OpenAPI document, with everything it needs inside it."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_METHODS = ("get", "post", "put", "patch", "delete")
_STYLE = """
:root{color-scheme:light dark;--fg:#16181d;--dim:#5d6470;--line:#dfe3e8;--bg:#fbfbfc;--card:#fff;--accent:#2f5bd3}
@media(prefers-color-scheme:dark){:root{--fg:#e7e9ee;--dim:#98a0ad;--line:#2b3038;--bg:#121418;--card:#191c22;--accent:#8fb0ff}}
*{box-sizing:border-box}body{margin:0;font:15px/1.6 system-ui,sans-serif;color:var(--fg);background:var(--bg)}
main{max-width:60rem;margin:0 auto;padding:2.5rem 1.25rem 5rem}h1{font-size:1.7rem;margin:0}h2{font-size:1.05rem;margin:2.5rem 0 .75rem;text-transform:capitalize}
p{margin:.5rem 0}a{color:var(--accent)}code,pre{font:13px/1.5 ui-monospace,monospace}.dim{color:var(--dim)}
details{background:var(--card);border:1px solid var(--line);border-radius:8px;margin:.5rem 0}summary{cursor:pointer;padding:.6rem .9rem;list-style:none;display:flex;gap:.75rem;align-items:baseline;flex-wrap:wrap}
summary::-webkit-details-marker{display:none}summary:focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:8px}
.verb{font:600 12px ui-monospace,monospace;min-width:3.6rem;color:var(--accent)}.in{padding:.25rem .9rem .9rem;border-top:1px solid var(--line)}
table{border-collapse:collapse;width:100%;margin:.5rem 0}td,th{text-align:left;padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}th{font-weight:600;color:var(--dim);font-size:.85rem}
pre{overflow:auto;padding:.75rem;border:1px solid var(--line);border-radius:6px;background:var(--bg)}
""".strip()


def docs_page(document: Mapping[str, Any]) -> str:
    """The document as one HTML page."""
    info = document["info"]
    groups: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                operation = methods[method]
                tag = (operation.get("tags") or ["other"])[0]
                groups.setdefault(tag, []).append(_operation(path, method, operation, document))
    sections = "".join(f"<h2>{html.escape(tag)}</h2>{''.join(found)}" for tag, found in groups.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(info['title'])}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{html.escape(info['title'])}</h1><p class=dim>Version {html.escape(info['version'])} · "
        '<a href="/openapi.json">openapi.json</a></p>'
        f"<p>{html.escape(info.get('description', ''))}</p>{sections}</main></body></html>"
    )


def _operation(path: str, method: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    description = html.escape(operation.get("description") or operation.get("summary", ""))
    return (
        f'<details><summary><span class="verb">{method.upper()}</span><code>{html.escape(path)}</code>'
        f'<span class="dim">{html.escape(_headline(operation))}</span></summary><div class="in">'
        f"<p>{description}</p>{_parameters(operation)}{_body(operation, document)}{_responses(operation)}</div></details>"
    )


def _headline(operation: Mapping[str, Any]) -> str:
    """The first sentence of what it says of itself, or the name."""
    first = str(operation.get("description", "")).split("\n\n")[0].partition(". ")[0].rstrip(".")
    return first.replace("\n", " ") or str(operation.get("summary", ""))


def _parameters(operation: Mapping[str, Any]) -> str:
    rows = [
        (p["name"], f"{p['in']}{', required' if p.get('required') else ''}", p.get("description", ""))
        for p in operation.get("parameters", [])
    ]
    return _table(("Parameter", "In", "What it says"), rows)


def _body(operation: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return ""
    schema = _resolved(content["schema"], document)
    required = set(schema.get("required", ()))
    rows = [
        (name, _type(value, document) + (", required" if name in required else ""), _said(value))
        for name, value in schema.get("properties", {}).items()
    ]
    return _table(("Field", "Type", "What it says"), rows) or f"<pre>{html.escape(json.dumps(schema, indent=2))}</pre>"


def _said(schema: Mapping[str, Any]) -> str:
    default = f" Default: {json.dumps(schema['default'])}." if "default" in schema else ""
    return f"{schema.get('description', '')}{default}"


def _type(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    schema = _resolved(schema, document)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(part, document) for part in schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    bounds = "".join(
        f" {sign} {schema[key]}"
        for key, sign in (("minimum", "≥"), ("maximum", "≤"), ("maxLength", "up to"))
        if key in schema
    )
    return f"{schema.get('type', 'any')}{bounds}"


def _responses(operation: Mapping[str, Any]) -> str:
    rows = [(status, said.get("description", "")) for status, said in sorted(operation.get("responses", {}).items())]
    return _table(("Status", "Meaning"), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    cells = "".join("<tr>" + "".join(_cells(row)) + "</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{html.escape(name)}</th>' for name in head)}</tr>{cells}</table>"


def _cells(row: tuple[str, ...]) -> Iterator[str]:
    yield f"<td><code>{html.escape(row[0])}</code></td>"
    yield from (f"<td>{html.escape(cell)}</td>" for cell in row[1:])


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Mapping[str, Any] = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found
