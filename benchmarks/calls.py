"""Bodies of calls: one model, pictures of 512 x 512, told apart by their seeds."""

from __future__ import annotations

from collections.abc import Iterable

MODEL = "flux-pro"


def body(seed: int) -> dict[str, object]:
    size = {"width": 512, "height": 512}
    return {"model": MODEL, "prompt": f"A lighthouse at dawn, number {seed}", "seed": seed, "image_size": size}


def bodies(seeds: Iterable[int]) -> list[dict[str, object]]:
    return [body(seed) for seed in seeds]
