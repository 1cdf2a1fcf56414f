"""Are these bytes a picture: a pure check that trusts neither their address nor the type they claim."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

Extension = Literal["jpg", "png", "webp"]
MAX_PIXELS = 16_000_000


class ImageUnusable(Exception):
    """An image could not be had.

    `permanent`: bytes came and are not a usable picture; else fetching may be tried again.
    """

    def __init__(self, reason: str, *, permanent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What the bytes themselves say. `width` and `height` in pixels, as decoded."""

    extension: Extension
    content_type: str
    width: int
    height: int


# Decoders are opened by name, never through `Image.open`: only the one that the magic bytes call for ever
# sees the bytes, and its process-wide bomb warning (which threads can't silence safely) does not stand before
# our own cap.
_DECODERS: dict[Extension, tuple[type[ImageFile], str]] = {
    "jpg": (JpegImageFile, "image/jpeg"),
    "png": (PngImageFile, "image/png"),
    "webp": (WebPImageFile, "image/webp"),
}


def inspect_picture(data: bytes, *, max_pixels: int = MAX_PIXELS) -> PictureFacts:
    """Decode `data` in full and say what it is.

    Costs tens of milliseconds of CPU: call it in a thread. Raises `ImageUnusable` (permanent) for anything
    but a whole JPEG, PNG or WebP of at most `max_pixels`.
    """
    with _opened(data, max_pixels) as (extension, picture):
        width, height = picture.size
        picture.draft("L", (1, 1))  # a JPEG is read to its last bit, but drawn small: half the time
        picture.load()  # verify() lets truncated JPEGs pass
    return PictureFacts(extension, _DECODERS[extension][1], width, height)


def thumbnail(data: bytes, longest_side: int, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """The picture as a WebP no side of which is longer; a smaller one is not enlarged.

    Costs tens of milliseconds of CPU: call it in a thread. Raises `ImageUnusable` as `inspect_picture` does.
    """
    made = BytesIO()
    with _opened(data, max_pixels) as (_, picture):
        picture.draft("RGB", (longest_side, longest_side))  # of a JPEG only what is shown is decoded
        small = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        small.thumbnail((longest_side, longest_side))
        small.save(made, "WEBP", quality=80, method=2)
    return made.getvalue()


@contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[tuple[Extension, ImageFile]]:
    """Whatever is raised inside is the bytes' fault."""
    extension = _extension_of(data)
    if extension is None:
        raise ImageUnusable("the bytes are neither JPEG, PNG nor WebP", permanent=True)
    try:
        with _DECODERS[extension][0](BytesIO(data)) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                reason = f"the picture claims {width}x{height} pixels, above the cap of {max_pixels}"
                raise ImageUnusable(reason, permanent=True)
            yield extension, picture
    except ImageUnusable:
        raise
    except Exception as exc:  # hostile bytes make decoders raise nearly anything
        raise ImageUnusable(f"the {extension} can't be decoded: {exc}", permanent=True) from exc


def content_type_of(data: bytes) -> str | None:
    """By its first bytes alone. None: it is no picture that is known here."""
    extension = _extension_of(data)
    return None if extension is None else _DECODERS[extension][1]


def _extension_of(data: bytes) -> Extension | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    return None
