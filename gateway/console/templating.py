"""Templates, with what all of them know. Everything is escaped; a name that is missing is an error."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway.console.format import FILTERS, FUNCTIONS

_HERE = Path(__file__).parent
ASSETS = _HERE / "assets"


def _version() -> str:
    """Of the assets: their addresses change with them, so that browsers may keep them for ever."""
    digest = hashlib.sha256()
    for file in sorted(ASSETS.iterdir()):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


VERSION = _version()
_environment = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_environment.filters.update(FILTERS)
_environment.globals.update(FUNCTIONS, assets=f"/console/assets/{VERSION}")
_environment.globals["m"] = _environment.get_template("macros.html").module


def render(template: str, **context: Any) -> str:
    return _environment.get_template(template).render(context)
