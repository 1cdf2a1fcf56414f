"""A form made of a model's parameters (JSON Schema), and the parameters that such a form comes back with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.errors import InvalidRequest

_HIDDEN = frozenset({"model", "n", "size", "response_format", "stream", "user"})
"""Chosen elsewhere, or another name for what has a field."""
_EXPECTED: dict[str, tuple[tuple[type, ...], str]] = {
    "whole": ((int, float), "a number"),
    "number": ((int, float), "a number"),
    "flag": ((bool,), "true or false"),
    "json": ((dict, list), "JSON"),
}


@dataclass(frozen=True, slots=True)
class FormField:
    """`kind`: text, long, whole, number, choice or flag. `wide` fields take the whole row."""

    name: str
    label: str
    kind: str
    value: str
    hint: str
    required: bool
    choices: Sequence[str] = ()
    default: str = ""
    minimum: str = ""
    maximum: str = ""

    @property
    def wide(self) -> bool:
        return self.kind == "long"


def form_fields(parameters: Mapping[str, Any], given: Mapping[str, str]) -> list[FormField]:
    """A field for each parameter, filled with what was given; the required ones first."""
    required = set(parameters.get("required", ()))
    fields = [
        _field(name, schema, given.get(name, ""), required=name in required)
        for name, schema in parameters["properties"].items()
        if name not in _HIDDEN
    ]
    return sorted(fields, key=lambda field: (not field.required, field.name != "seed"))


def _field(name: str, schema: Mapping[str, Any], value: str, *, required: bool) -> FormField:
    simple = _simple(schema)
    default = simple.get("default", schema.get("default"))
    return FormField(
        name=name,
        label=name.replace("_", " ").capitalize(),
        kind=_kind(simple),
        value=value,
        hint=str(schema.get("description", "")),
        required=required,
        choices=[str(each) for each in simple.get("enum", ())],
        default="" if default is None else str(default),
        minimum=str(simple.get("minimum", "")),
        maximum=str(simple.get("maximum", "")),
    )


def _simple(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of several forms the first that is no object: a form has one field for it."""
    options = schema.get("anyOf") or schema.get("oneOf")
    if not options:
        return schema
    return next((each for each in options if each.get("type") != "object"), {"type": "string"})


def _kind(schema: Mapping[str, Any]) -> str:
    if schema.get("enum"):
        return "choice"
    kinds = schema.get("type", "string")
    kind = next((each for each in kinds if each != "null"), "string") if isinstance(kinds, list) else kinds
    if kind == "string":
        return "long" if schema.get("maxLength", 0) > 500 else "text"
    return {"integer": "whole", "number": "number", "boolean": "flag"}.get(kind, "json")


def read_parameters(parameters: Mapping[str, Any], form: Mapping[str, str]) -> dict[str, Any]:
    """What the form says, typed as the schema wants it; a field left empty is absent. Raises InvalidRequest for what is
    no number; everything else the API judges.
    """
    return dict(_read(parameters, form))


def _read(parameters: Mapping[str, Any], form: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for name, schema in parameters["properties"].items():
        text = form.get(name, "")
        if name in _HIDDEN or not text.strip():
            continue
        simple = _simple(schema)
        kind = _kind(simple)
        if kind == "choice":
            yield name, next((each for each in simple["enum"] if str(each) == text), text)
        elif kind in _EXPECTED:
            yield name, _parsed(name, kind, text.strip())
        else:
            yield name, text.replace("\r\n", "\n")


def _parsed(name: str, kind: str, text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_no_number)
    except ValueError:
        value = None
    types, due = _EXPECTED[kind]
    if not isinstance(value, types) or (isinstance(value, bool) and kind != "flag") or value == math.inf:
        raise InvalidRequest(f"{name}: {text[:40]!r} is not {due}.", param=name)
    return value


def _no_number(text: str) -> Any:
    """NaN and Infinity are no JSON, whatever Python says."""
    raise ValueError(text)
