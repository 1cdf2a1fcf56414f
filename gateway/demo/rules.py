"""The provider's rules for a request body, written by hand from its documentation.

Nothing of the gateway is imported: a mistake in its catalogue must not be repeated here.
"""

from __future__ import annotations

from typing import Any

NAMED_SIZES = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
Issue = dict[str, Any]


def issues_of(body: Any, models: set[str]) -> list[Issue]:
    """What the provider would refuse in `body`; empty for a good one. It ignores unknown keys."""
    if not isinstance(body, dict):
        return [_wrong_type((), "object", body)]
    issues = _text(body, "model", 200) + _text(body, "prompt", 4000)
    if isinstance(body.get("model"), str) and body["model"] not in models:
        issues.append(_not_one_of(("model",), sorted(models), body["model"]))
    issues += _number(body, "num_images", 1, 4)
    issues += _number(body, "num_inference_steps", 1, 50)
    issues += _number(body, "guidance_scale", 1, 20, whole=False)
    issues += _number(body, "seed", 1, None)
    issues += _choice(body, "safety_tolerance", list("123456"))
    issues += _choice(body, "output_format", ["jpeg", "png"])
    return issues + _size(body)


def pixels_of(body: dict[str, Any]) -> tuple[int, int]:
    """Width and height of a good body."""
    size = body.get("image_size", "landscape_4_3")
    return NAMED_SIZES[size] if isinstance(size, str) else (size.get("width", 1024), size.get("height", 768))


def _text(body: dict[str, Any], key: str, longest: int) -> list[Issue]:
    value = body.get(key)
    if not isinstance(value, str):
        return [_wrong_type((key,), "string", value)]
    if len(value) > longest:
        return [_out_of_range((key,), "too_big", "maximum", longest)]
    return []


def _number(
    parent: dict[str, Any], key: str, low: float, high: float | None, *, whole: bool = True, at: str = ""
) -> list[Issue]:
    if key not in parent:
        return []
    value, path = parent[key], (at, key) if at else (key,)
    kinds = int if whole else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool):
        return [_wrong_type(path, "integer" if whole else "number", value)]
    if value < low:
        return [_out_of_range(path, "too_small", "minimum", low)]
    if high is not None and value > high:
        return [_out_of_range(path, "too_big", "maximum", high)]
    return []


def _choice(body: dict[str, Any], key: str, options: list[str]) -> list[Issue]:
    if key not in body or (isinstance(body[key], str) and body[key] in options):
        return []
    return [_not_one_of((key,), options, body[key])]


def _size(body: dict[str, Any]) -> list[Issue]:
    size = body.get("image_size", "landscape_4_3")
    if isinstance(size, str):
        return [] if size in NAMED_SIZES else [_not_one_of(("image_size",), list(NAMED_SIZES), size)]
    if not isinstance(size, dict):
        return [{"code": "invalid_union", "path": ["image_size"], "message": "Invalid input"}]
    issues = [issue for key in ("width", "height") for issue in _number(size, key, 256, 1440, at="image_size")]
    return issues or [
        {
            "code": "not_multiple_of",
            "multipleOf": 32,
            "path": ["image_size", key],
            "message": "Number must be a multiple of 32",
        }
        for key in ("width", "height")
        if size.get(key, 32) % 32
    ]


def _wrong_type(path: tuple[str, ...], expected: str, value: Any) -> Issue:
    received = "undefined" if value is None else type(value).__name__
    message = "Required" if value is None else f"Expected {expected}, received {received}"
    return {
        "code": "invalid_type",
        "expected": expected,
        "received": received,
        "path": list(path),
        "message": message,
    }


def _out_of_range(path: tuple[str, ...], code: str, bound: str, limit: float) -> Issue:
    word = "less" if code == "too_big" else "greater"
    return {
        "code": code,
        bound: limit,
        "inclusive": True,
        "path": list(path),
        "message": f"Must be {word} than or equal to {limit}",
    }


def _not_one_of(path: tuple[str, ...], options: list[str], value: Any) -> Issue:
    message = f"Invalid enum value. Expected {' | '.join(options)}, received {value!r}"
    return {
        "code": "invalid_enum_value",
        "options": options,
        "received": value,
        "path": list(path),
        "message": message,
    }
