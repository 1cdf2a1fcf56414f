from __future__ import annotations

import warnings
from io import BytesIO

import pytest
from PIL import Image

from gateway.demo.pictures import bomb
from gateway.domain.picture import ImageUnusable, PictureFacts, inspect_picture
from gateway.providers import base


def picture(format: str, size: tuple[int, int] = (320, 256)) -> bytes:  # noqa: A002
    out = BytesIO()
    Image.effect_noise(size, 40).convert("RGB").save(out, format)
    return out.getvalue()


@pytest.mark.parametrize(
    ("format", "extension", "content_type"),
    [("JPEG", "jpg", "image/jpeg"), ("PNG", "png", "image/png"), ("WEBP", "webp", "image/webp")],
)
def test_says_what_the_bytes_are(format: str, extension: str, content_type: str) -> None:  # noqa: A002
    facts = inspect_picture(picture(format))
    assert (facts.extension, facts.content_type) == (extension, content_type)
    assert (facts.width, facts.height) == (320, 256)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_refuses_a_truncated_picture(format: str, share: float) -> None:  # noqa: A002
    whole = picture(format)
    with pytest.raises(ImageUnusable, match="can't be decoded") as refused:
        inspect_picture(whole[: int(len(whole) * share)])
    assert refused.value.permanent


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!doctype html><title>Not found</title>",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        picture("GIF"),
        picture("BMP"),
        picture("TIFF"),
    ],
    ids=["nothing", "html", "svg", "gif", "bmp", "tiff"],
)
def test_refuses_every_other_format(data: bytes) -> None:
    with pytest.raises(ImageUnusable, match="neither JPEG, PNG nor WebP") as refused:
        inspect_picture(data)
    assert refused.value.permanent


@pytest.mark.parametrize("magic", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x10\0\0\0WEBP"])
def test_magic_bytes_alone_are_no_picture(magic: bytes) -> None:
    with pytest.raises(ImageUnusable):
        inspect_picture(magic + bytes(range(256)))


@pytest.mark.parametrize("side", [4_001, 12_000, 30_000])
def test_a_bomb_is_refused_before_it_is_decoded_and_without_a_warning(side: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageUnusable, match=f"claims {side}x{side} pixels"):
            inspect_picture(bomb(side))


def test_the_pixel_cap_is_inclusive() -> None:
    data = picture("PNG", (100, 100))
    assert inspect_picture(data, max_pixels=10_000) == PictureFacts("png", "image/png", 100, 100)
    with pytest.raises(ImageUnusable):
        inspect_picture(data, max_pixels=9_999)


def test_the_providers_room_names_the_same_finding() -> None:
    assert base.ImageUnusable is ImageUnusable
