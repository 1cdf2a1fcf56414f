"""Validation issues in the provider's form: each with `path`, `code`, `message` and what was expected.

The provider validates with Zod, whose codes clients know (`invalid_type`, `too_big`, ...); our rules are JSON
Schema. This is the table from the one to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jsonschema_rs

from gateway.errors import InvalidRequest

PAYLOAD_MESSAGE = "Invalid payload provided"
_SHOWN = 80


class Issue(NamedTuple):
    """One thing wrong. `extra` holds what was expected; `value` is what came."""

    path: tuple[str | int, ...]
    code: str
    message: str
    extra: dict[str, Any]
    value: Any

    def as_data(self) -> dict[str, Any]:
        return {"path": list(self.path), "code": self.code, "message": self.message, **self.extra} | {
            "received": type_name(self.value) if self.code == "invalid_type" else shown(self.value)
        }


def invalid_payload(issues: Sequence[Issue]) -> InvalidRequest:
    """The refusal for these issues. The message names the first field and rule: Node's SDK shows nothing else."""
    first = issues[0]
    where = ".".join(map(str, first.path)) or "body"
    received = "nothing" if first.message == "Required" else f"{type_name(first.value)} {shown(first.value)}"
    return InvalidRequest(
        f"{PAYLOAD_MESSAGE}: {where}: {first.message} (received {received.strip()})"
        + (f", and {len(issues) - 1} more" if len(issues) > 1 else ""),
        param=str(first.path[0]) if first.path else None,
        data=[issue.as_data() for issue in issues],
    )


def type_name(value: Any) -> str:
    """A JSON value's type, as Zod names it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "number", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "undefined")


def shown(value: Any) -> Any:
    """A value as an error may repeat it: numbers, booleans and short text; nothing that could be a prompt or a bomb."""
    if isinstance(value, str):
        return value if len(value) <= _SHOWN else f"({len(value)} characters)"
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "(a number beyond 64 bits)"
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, int | float) else ""


def issues_of(validator: Any, instance: Mapping[str, Any], aliases: Mapping[str, str]) -> list[Issue]:
    """Every issue in an instance that its schema refused. `aliases` maps a native name to the one the caller used."""
    found: list[Issue] = []
    seen: set[tuple[str | int, ...]] = set()
    for error in validator.iter_errors(instance):
        for issue in _translate(error):
            path = _renamed(issue.path, aliases)
            if path not in seen:  # a wrong type also breaks the range: one issue a field is enough
                seen.add(path)
                found.append(issue._replace(path=path))
    return found


def _renamed(path: tuple[str | int, ...], aliases: Mapping[str, str]) -> tuple[str | int, ...]:
    if not path or path[0] not in aliases:
        return path
    return (aliases[str(path[0])],)


def _translate(error: Any) -> list[Issue]:
    kind = error.kind
    path = tuple(error.instance_path)
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.AnyOf):
        return _translate_union(path, kind, error.instance)
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        return [Issue((*path, kind.property), "invalid_type", "Required", {"expected": "string"}, None)]
    make = _TABLE.get(kind.name)
    if make is None:
        return [Issue(path, "invalid_value", error.message, {}, error.instance)]
    code, message, extra = make(kind)
    return [Issue(path, code, message, extra, error.instance)]


def _translate_union(path: tuple[str | int, ...], kind: Any, instance: Any) -> list[Issue]:
    """The issues of the branch that the value's type chose; if none has its type, one issue that names them all."""
    types = []
    for branch in kind.context:
        mismatch = next((e for e in branch if e.kind.name == "type" and not list(e.instance_path)[len(path) :]), None)
        if mismatch is None:
            return [issue for error in branch for issue in _translate(error)]
        types += mismatch.kind.types
    message = f"Expected {' or '.join(types)}"
    return [Issue(path, "invalid_type", message, {"expected": " | ".join(types)}, instance)]


def _expected_type(kind: Any) -> tuple[str, str, dict[str, Any]]:
    expected = " | ".join(kind.types)
    return "invalid_type", f"Expected {expected}", {"expected": expected}


def _too_big(kind: Any) -> tuple[str, str, dict[str, Any]]:
    return (
        "too_big",
        f"Must be at most {kind.limit}",
        {"maximum": kind.limit, "inclusive": True, "type": "number"},
    )


def _too_small(kind: Any) -> tuple[str, str, dict[str, Any]]:
    return (
        "too_small",
        f"Must be at least {kind.limit}",
        {"minimum": kind.limit, "inclusive": True, "type": "number"},
    )


def _too_long(kind: Any) -> tuple[str, str, dict[str, Any]]:
    extra = {"maximum": kind.limit, "inclusive": True, "type": "string"}
    return "too_big", f"Must be at most {kind.limit} characters", extra


def _options(kind: Any) -> tuple[str, str, dict[str, Any]]:
    said = ", ".join(repr(option) for option in kind.options)
    return "invalid_enum_value", f"Must be one of {said}", {"options": list(kind.options)}


def _multiple(kind: Any) -> tuple[str, str, dict[str, Any]]:
    step = int(kind.multiple_of)
    return "not_multiple_of", f"Must be a multiple of {step}", {"multipleOf": step}


_TABLE: dict[str, Callable[[Any], tuple[str, str, dict[str, Any]]]] = {
    "type": _expected_type,
    "maximum": _too_big,
    "minimum": _too_small,
    "maxLength": _too_long,
    "enum": _options,
    "multipleOf": _multiple,
}
