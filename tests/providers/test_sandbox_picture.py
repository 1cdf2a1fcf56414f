from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gateway.domain.picture import inspect_picture
from gateway.providers.sandbox_picture import Sketch, draw


def sketch(**changes: Any) -> Sketch:
    fields: dict[str, Any] = {
        "text": "A lighthouse at dusk",
        "prompt_sha256": "ab" * 32,
        "seed": 5,
        "width": 256,
        "height": 256,
        "format": "jpeg",
        "index": 0,
    }
    return Sketch(**(fields | changes))


@pytest.mark.parametrize("width", [256, 1440])
@pytest.mark.parametrize("height", [256, 1440])
@pytest.mark.parametrize("text", ["", "Fox", "A fox in the snow " * 20, "x" * 280])
def test_fills_any_size_with_any_prompt(width: int, height: int, text: str) -> None:
    facts = inspect_picture(draw(sketch(width=width, height=height, text=text)))
    assert (facts.width, facts.height) == (width, height)


@pytest.mark.parametrize("format", ["jpeg", "png"])
def test_equal_sketches_give_equal_bytes(format: str) -> None:  # noqa: A002
    assert draw(sketch(format=format)) == draw(sketch(format=format))


@pytest.mark.parametrize("change", [{"seed": 6}, {"index": 1}, {"prompt_sha256": "cd" * 32}])
def test_seed_prompt_and_index_each_change_the_picture(change: dict[str, Any]) -> None:
    assert draw(sketch(text="", **change)) != draw(sketch(text=""))


def test_the_prompt_is_typeset() -> None:
    plain, titled = (Image.open(BytesIO(draw(sketch(text=text, format="png")))) for text in ("", "Fox"))
    foot = (0, 160, 256, 256)
    assert plain.crop(foot).tobytes() != titled.crop(foot).tobytes()


@settings(max_examples=30)
@given(st.text(max_size=280))
def test_no_prompt_stops_the_drawing(text: str) -> None:
    assert draw(sketch(text=text))
