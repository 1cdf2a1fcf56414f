"""Draw the sandbox's pictures: nobody mistakes one for a bought picture, and nobody minds looking at it.

A coarse mesh of the palette's colours is blown up into a soft gradient; translucent discs float on it;
vignette and grain tie it together; the prompt stands on a frosted panel. Equal sketches give equal bytes.
"""

from __future__ import annotations

import colorsys
import hashlib
import re
import unicodedata
from bisect import bisect_right
from functools import lru_cache
from io import BytesIO
from random import Random
from typing import Literal

import msgspec
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]

_MAX_LINES = 5
_PLAIN_PUNCTUATION = str.maketrans("‘’‚“”„‐‑–—", "'''\"\"\"----")


class Sketch(msgspec.Struct, frozen=True):
    """All that decides a picture. `text` is typeset, `prompt_sha256` (hex) stands for the whole prompt.

    `width` and `height` in pixels; `index` counts the pictures of one answer from 0.
    """

    text: str
    prompt_sha256: str
    seed: int
    width: int
    height: int
    format: Literal["jpeg", "png"]
    index: int


def draw(sketch: Sketch) -> bytes:
    """JPEG or PNG bytes. About 30 ms of CPU at 1024x768 as JPEG: call it in a thread."""
    key = f"{sketch.prompt_sha256}/{sketch.seed}/{sketch.index}"
    random = Random(hashlib.sha256(key.encode()).digest())  # noqa: S311  (reproducible on purpose)
    size = (sketch.width, sketch.height)
    palette = _palette(random)
    picture = _gradient(size, palette, random)
    picture = _discs(picture, palette, random)
    picture = ImageChops.overlay(picture, _grain(size))
    _typeset(picture, sketch)
    out = BytesIO()
    if sketch.format == "png":
        picture.save(out, "PNG", compress_level=1)
    else:
        picture.save(out, "JPEG", quality=88)
    return out.getvalue()


def _palette(random: Random) -> list[Colour]:
    """Five colours from deep to luminous: neighbours on the wheel, and one accent across it."""
    hue = random.random()
    spread = random.choice((-1, 1)) * random.uniform(0.07, 0.13)
    tones = ((0.0, 0.20, 0.45), (1.0, 0.38, 0.46), (2.0, 0.58, 0.55), (3.0, 0.80, 0.68))
    colours = [_colour(hue + spread * step, light, strength) for step, light, strength in tones]
    return [*colours, _colour(hue + 0.5 + spread, 0.72, 0.74)]


def _colour(hue: float, lightness: float, saturation: float) -> Colour:
    red, green, blue = colorsys.hls_to_rgb(hue % 1, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def _gradient(size: tuple[int, int], palette: list[Colour], random: Random) -> Image.Image:
    """Dark below, light above on a tilt, each mesh point a little off: no two skies alike."""
    columns, rows = 5, 5
    tilt = random.uniform(-0.45, 0.45)
    mesh = Image.new("RGB", (columns, rows))
    for y in range(rows):
        for x in range(columns):
            height = (rows - 1 - y) / (rows - 1) + tilt * (x / (columns - 1) - 0.5) + random.uniform(-0.16, 0.16)
            mesh.putpixel((x, y), _between(palette[:4], height))
    mesh.putpixel((random.randrange(1, 4), random.randrange(2)), palette[4])
    # Twice, by way of a small picture: one bicubic leap from 5 points would show their grid.
    soft = mesh.resize((64, 64), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(5))
    return ImageChops.multiply(soft, _vignette()).resize(size, Image.Resampling.BICUBIC)


@lru_cache(maxsize=1)
def _vignette() -> Image.Image:
    shade = Image.radial_gradient("L").resize((64, 64))
    return shade.point(lambda level: 255 - max(0, level - 110) * 0.5).convert("RGB")


def _between(colours: list[Colour], at: float) -> Colour:
    """The colour at `at` (0..1, clamped) on the ramp of `colours`."""
    place = min(max(at, 0.0), 1.0) * (len(colours) - 1)
    low = min(int(place), len(colours) - 2)
    first, second, share = colours[low], colours[low + 1], place - low
    return (
        round(first[0] + (second[0] - first[0]) * share),
        round(first[1] + (second[1] - first[1]) * share),
        round(first[2] + (second[2] - first[2]) * share),
    )


def _discs(picture: Image.Image, palette: list[Colour], random: Random) -> Image.Image:
    """A luminous disc and its companions, each shaded from its rim inwards like frosted glass."""
    short = min(picture.size)
    for share in (random.uniform(0.62, 0.8), random.uniform(0.3, 0.44), random.uniform(0.12, 0.2)):
        diameter = round(short * share)
        left = round(random.uniform(0.05, 0.95) * picture.width - diameter / 2)
        top = round(random.uniform(0.02, 0.62) * picture.height - diameter / 2)
        colour = random.choice(palette[2:])
        mask = _glass(random.choice((0, 90, 180, 270))).resize((diameter, diameter), Image.Resampling.BILINEAR)
        picture.paste(colour, (left, top), mask)
    return picture


@lru_cache(maxsize=4)
def _glass(turn: int) -> Image.Image:
    """A disc's mask: opaque at one side, fading to the other, with a clean edge."""
    side = 384
    edge = Image.new("L", (side * 2, side * 2))
    ImageDraw.Draw(edge).ellipse((4, 4, side * 2 - 5, side * 2 - 5), fill=255)
    fade = Image.linear_gradient("L").resize((side, side)).point(lambda level: 12 + level * 0.72)
    return ImageChops.multiply(edge.resize((side, side), Image.Resampling.LANCZOS), fade.rotate(turn))


def _grain(size: tuple[int, int]) -> Image.Image:
    """The grain, tiled."""
    tile = _grain_tile()
    sheet = Image.new("RGB", size)
    for top in range(0, size[1], tile.height):
        for left in range(0, size[0], tile.width):
            sheet.paste(tile, (left, top))
    return sheet


@lru_cache(maxsize=1)
def _grain_tile() -> Image.Image:
    """Neutral grey with a whisper of noise; under an overlay 127 changes nothing."""
    side = 256
    noise = Image.frombytes("L", (side, side), Random(0).randbytes(side * side))  # noqa: S311  (always the same)
    return noise.point(lambda level: 127 + (level - 127) * 0.05).convert("RGB")


def _typeset(picture: Image.Image, sketch: Sketch) -> None:
    """The prompt on a frosted panel at the foot, the tag in the upper corner."""
    unit = min(picture.size)
    margin, pad = round(unit * 0.05), round(unit * 0.045)
    font = _font(max(13, round(unit * 0.042)))
    small = _font(max(11, round(unit * 0.024)))
    tag = f"TEST  ·  seed {sketch.seed}  ·  {sketch.width}x{sketch.height}"
    _label(picture, tag, small, (margin, margin))
    lines = _wrap(_legible(sketch.text), font, picture.width - 2 * (margin + pad))
    if not lines:
        return
    right = margin + 2 * pad + round(max(map(font.getlength, lines)))
    leading = round(font.size * 1.36)
    top = picture.height - margin - 2 * pad - leading * len(lines)
    _frost(picture, (margin, top, right, picture.height - margin), round(unit * 0.03))
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        baseline = top + pad + leading * number + leading / 2
        pen.text((margin + pad, baseline), line, font=font, fill=(250, 250, 252), anchor="lm")


def _label(picture: Image.Image, text: str, font: ImageFont.FreeTypeFont, at: tuple[int, int]) -> None:
    width, height = font.getlength(text), font.size
    box = (at[0], at[1], round(at[0] + width + height * 1.6), round(at[1] + height * 2))
    _frost(picture, box, height)
    middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    ImageDraw.Draw(picture).text(middle, text, font=font, fill=(250, 250, 252), anchor="mm")


def _frost(picture: Image.Image, box: Box, radius: float) -> None:
    """Blur and darken what lies under `box`, with round corners, so that white type reads on any palette."""
    below = picture.crop(box)
    blurred = below.reduce(4).filter(ImageFilter.GaussianBlur(6)).resize(below.size, Image.Resampling.BICUBIC)
    mask = Image.new("L", (below.width * 2, below.height * 2))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), radius * 2, fill=255)
    picture.paste(ImageEnhance.Brightness(blurred).enhance(0.52), box, mask.reduce(2))


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Lines of at most `width` pixels; a longer word is broken, what is left out becomes an ellipsis."""
    lines: list[str] = []
    rest = " ".join(text.split())
    while rest and len(lines) < _MAX_LINES:
        end = _fitting(rest, font, width)
        if end < len(rest):
            end = max(rest.rfind(" ", 0, end + 1), 0) or end
        lines.append(rest[:end])
        rest = rest[end:].lstrip()
    if rest:
        room = _fitting(lines[-1], font, width - font.getlength("…"))
        lines[-1] = lines[-1][:room].rstrip(" ,.;:") + "…"
    return lines


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: float) -> int:
    """How many leading characters fit; at least one, so that wrapping comes to an end."""
    return max(1, bisect_right(range(1, len(text) + 1), width, key=lambda n: font.getlength(text[:n])))


def _legible(text: str) -> str:
    """Pillow's typeface knows ASCII: accents fall, other letters become an ellipsis, not empty boxes."""
    plain = re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFKD", text.translate(_PLAIN_PUNCTUATION)))
    return re.sub("[^\\s!-~…]+", "…", plain)


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own typeface; its wheels carry FreeType, without which there is no scalable one."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
