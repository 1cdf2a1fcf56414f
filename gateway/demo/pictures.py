"""The pictures of the fake provider: small work, right dimensions, and every way of being wrong."""

from __future__ import annotations

import hashlib
import random
import struct
import zlib
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Literal

from PIL import Image

ImageFault = Literal["missing", "html", "truncated", "wrong_type", "wrong_size", "bomb", "huge", "redirect_inward"]


@dataclass(frozen=True)
class File:
    """A picture that has an address. Equal keys give equal bytes."""

    key: str
    width: int
    height: int
    format: str = "jpeg"
    fault: ImageFault | None = None


def bytes_of(file: File) -> bytes:
    """The picture, or what its fault makes of it."""
    match file.fault:
        case "html":
            return b"<!doctype html><title>Not found</title>"
        case "wrong_type":
            return draw(replace(file, format="gif"))
        case "wrong_size":
            return draw(replace(file, width=file.width // 2, height=file.height // 2))
        case "bomb":
            return bomb()
        case "truncated":
            whole = draw(file)
            return whole[: len(whole) // 2]
        case _:
            return draw(file)


def draw(file: File) -> bytes:
    """A sound picture, whatever the fault."""
    colours = random.Random(hashlib.sha256(file.key.encode()).digest()).randbytes(8 * 8 * 3)  # noqa: S311
    small = Image.frombytes("RGB", (8, 8), colours)
    out = BytesIO()
    small.resize((file.width, file.height), Image.Resampling.BILINEAR).save(out, file.format.upper())
    return out.getvalue()


def bomb(side: int = 30_000) -> bytes:
    """A PNG of under a hundred bytes that claims `side` x `side` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(64))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
