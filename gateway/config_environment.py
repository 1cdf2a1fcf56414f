"""Settings from the environment (`DARKROOM__SERVER__PORT=9000`): found misspelt or unreadable, `${...}` filled in."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, get_origin

import msgspec
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.config_file import Location
from gateway.config_references import filled_in_throughout
from gateway.errors import ConfigurationError

ENV_PREFIX = "DARKROOM__"


def read_environment(fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """What it says, in the form of a file. `fields`: of all settings.

    Raises ConfigurationError: a misspelt variable would be ignored in silence, an unreadable one blamed on its section.
    """
    said = {
        tuple(name.upper().removeprefix(ENV_PREFIX).lower().split("__")): (name, text)
        for name, text in os.environ.items()
        if name.upper().startswith(ENV_PREFIX)
    }
    data: dict[str, Any] = {}
    for path in sorted(said, key=len):  # a section given whole, then what is given of it
        name, text = said[path]
        value = _value(name, text, _shape_of(path, fields))
        section = data
        for part in path[:-1]:
            section[part] = section.get(part) or {}
            section = section[part]
        section[path[-1]] = value
    return data


def variable_of(location: Location) -> str | None:
    """The environment variable that set the value at `location`: then the mistake is not in the file."""
    ours = {name.upper(): name for name in os.environ if name.upper().startswith(ENV_PREFIX)}
    for length in range(len(location), 0, -1):
        found = ours.get(ENV_PREFIX + "__".join(map(str, location[:length])).upper())
        if found:
            return found
    return None


def _value(name: str, text: str, shape: type | None) -> Any:
    if shape is None:
        raise ConfigurationError(f"{name}: there is no such setting; see config.example.yaml (a list is JSON, whole)")
    if not text:
        raise ConfigurationError(f"{name} is empty: unset it, or say null")
    if text == "null":
        return None
    value = text if shape is str else _json(text)
    if not isinstance(value, shape):
        kind = "list" if shape is list else "section"
        raise ConfigurationError(f"{name}: this is a {kind}: write it as JSON")
    try:
        return filled_in_throughout(value)
    except ValueError as exc:
        raise ConfigurationError(f"{name}: {exc}") from None


def _shape_of(path: Sequence[str], fields: Mapping[str, FieldInfo]) -> type | None:
    """list, dict (a section) or str (a plain value) for the setting at `path`; None when there is none."""
    for i, part in enumerate(path):
        if part not in fields:
            return None
        annotation: Any = fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            shape = list if get_origin(annotation) is list else str
            return shape if i == len(path) - 1 else None
        fields = annotation.model_fields
    return dict


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
