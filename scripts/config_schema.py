#!/usr/bin/env python3
"""Writes config.schema.json, by which editors check and complete config.yaml, and Helm the values of its chart.

The docstring of a setting is its description. They are read from the source here: pydantic would read them at every
start, which took a twentieth of it.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from gateway import config, config_operations, config_sections
from gateway.config import Settings

_MODULES = (config_operations, config_sections, config)
TARGET = Path(__file__).parents[1] / "config.schema.json"
CHART = Path(__file__).parents[1] / "deploy" / "helm" / "darkroom" / "values.schema.json"


def schema_text() -> str:
    """The schema of a configuration file, as it is committed."""
    schema = Settings.model_json_schema()
    _describe(schema)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Darkroom"}
    return json.dumps(schema, indent=2) + "\n"


def chart_schema_text() -> str:
    """The schema of the chart's values as it stands, with the settings of today as `config`."""
    settings, chart = json.loads(schema_text()), json.loads(CHART.read_text(encoding="utf-8"))
    parts = settings.pop("$defs")
    for name in ("$schema", "title"):
        del settings[name]
    chart["properties"]["config"] = settings
    chart["$defs"] = parts
    return json.dumps(chart, indent=2) + "\n"


def _describe(schema: dict[str, Any]) -> None:
    said = {cls.name: dict(_docstrings(cls)) for module in _MODULES for cls in _classes(module)}
    for name, part in {**schema["$defs"], "Settings": schema}.items():
        for base in _class(name).__mro__:
            for field, text in said.get(base.__name__, {}).items():
                setting = part["properties"][field]
                setting["description"] = text
                part["properties"][field] = dict(sorted(setting.items()))


def _class(name: str) -> type:
    return next((vars(module)[name] for module in _MODULES if name in vars(module)), Settings)


def _classes(module: Any) -> Iterator[ast.ClassDef]:
    return (part for part in ast.parse(inspect.getsource(module)).body if isinstance(part, ast.ClassDef))


def _docstrings(cls: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Settings of a class with the strings below them."""
    for field, below in pairwise(cls.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)


if __name__ == "__main__":
    TARGET.write_text(schema_text(), encoding="utf-8")
    CHART.write_text(chart_schema_text(), encoding="utf-8")
