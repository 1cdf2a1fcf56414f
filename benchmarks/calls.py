"""Bodies of calls: one model, pictures of 512 x 512, told apart by their seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

MODEL = "flux-pro"


def body(seed: int) -> dict[str, object]:
    size = {"width": 512, "height": 512}
    return {"model": MODEL, "prompt": f"A lighthouse at dawn, number {seed}", "seed": seed, "image_size": size}


def bodies(seeds: Iterable[int]) -> list[dict[str, object]]:
    return [body(seed) for seed in seeds]


def unseeded(number: int) -> dict[str, object]:
    """One that is never cached."""
    return {name: value for name, value in body(number).items() if name != "seed"}


def write(file: Path, wanted: Iterable[dict[str, object]]) -> Path:
    """One a line."""
    file.write_text("\n".join(map(json.dumps, wanted)), encoding="utf-8")
    return file
