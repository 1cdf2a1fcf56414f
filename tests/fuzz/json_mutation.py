"""Mutations of JSON as JSON: a byte changed at random nearly always ends at the reader, and never sees what is behind.

Atheris' byte mutations take their turn, for the reader's sake.
"""

from __future__ import annotations

import json
import random
from typing import Any

import atheris

NAMES = [
    *("model", "prompt", "num_images", "n", "seed", "image_size", "size", "width", "height", "num_inference_steps"),
    *("guidance_scale", "safety_tolerance", "output_format", "response_format", "user", "images", "data", "url"),
    *("b64_json", "timings", "has_nsfw_concepts", "meta", "usage", "usd_spent", "credits_used", "created", "message"),
    *("status", "statusCode", "error", "path", "code", "kind", "name", ""),
]
VALUES: list[Any] = [
    *(None, True, False, [], {}, [[]], [{}], {"": ""}, "", " ", "flux-pro", "square_hd", "auto", "1024x768", "99999x0"),
    *("2", "7", "jpeg", "png", "url", "b64_json", "0.065", "1e400", "NaN", "-0", "err_insufficent_credits", "\ud800"),
    *("\0", "é", "x" * 81, "x" * 4001, 0, 1, 4, 5, 32, 256, 1440, 1472, 50, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64),
    *(10**40, 10**4000, -1, 0.0, -0.0, 1.0, 1.5, 20.0, 2.0**53, 1e300, 5e-324, float("inf"), float("nan")),
]


def mutate_json(data: bytes, max_size: int, seed: int) -> bytes:
    """One to four changes of the value, or of the bytes; the result may be broken either way."""
    chance = random.Random(seed)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return bytes(atheris.Mutate(data, max_size))
    if chance.random() < 0.2:
        return bytes(atheris.Mutate(data, max_size))
    try:
        for _ in range(chance.randint(1, 4)):
            value = _changed(value, chance)
        text = json.dumps(value, ensure_ascii=chance.random() < 0.5)
    except RecursionError:
        return data
    return text.encode("utf-8", "surrogatepass")[:max_size]


def _changed(value: Any, chance: random.Random) -> Any:
    """The value with one change, here or, more often, somewhere inside."""
    if isinstance(value, dict) and (not value or chance.random() < 0.8):
        name = chance.choice(list(value) + NAMES[:1] if value and chance.random() < 0.6 else NAMES)
        if name in value and chance.random() < 0.2:
            return {key: inner for key, inner in value.items() if key != name}
        return {**value, name: _changed(value[name], chance) if name in value else _new(chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        changed = [*value, value[place]] if chance.random() < 0.2 else list(value)
        changed[place] = _changed(value[place], chance)
        return changed
    if isinstance(value, int | float) and not isinstance(value, bool) and chance.random() < 0.4:
        return value + chance.choice([-1, 1, 32])
    return _new(chance)


def _new(chance: random.Random) -> Any:
    value = chance.choice(VALUES)
    return [value] if chance.random() < 0.1 else {chance.choice(NAMES): value} if chance.random() < 0.1 else value
