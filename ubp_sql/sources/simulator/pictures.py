"""Item pictures: a simple shape per category in the item's colour, as palette PNGs written with zlib alone."""

import struct
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ubp_sql.sources.simulator.catalogue import COLOURS
from ubp_sql.sources.simulator.draws import Bools, Floats

SIZE = 64  # pixels
Pixels = NDArray[np.uint8]
Rgb = tuple[int, int, int]
BACKGROUND, BODY, SHADE, LIGHT = range(4)
Layers = list[tuple[Bools, int]]


def box(x: Floats, y: Floats, left: float, top: float, right: float, bottom: float) -> Bools:
    """Pixels inside a rectangle; x runs right and y runs down, both from -1 to 1."""
    return (x >= left) & (x <= right) & (y >= top) & (y <= bottom)


def disc(x: Floats, y: Floats, cx: float, cy: float, rx: float, ry: float | None = None) -> Bools:
    """Pixels inside an ellipse."""
    return np.asarray(((x - cx) / rx) ** 2 + ((y - cy) / (rx if ry is None else ry)) ** 2 <= 1.0)


def coffee(x: Floats, y: Floats) -> Layers:
    bean = disc(x, y, 0.0, 0.2, 0.22, 0.32)
    return [
        (box(x, y, -0.5, -0.6, 0.5, 0.8), BODY),
        (box(x, y, -0.5, -0.75, 0.5, -0.55), SHADE),
        (bean, LIGHT),
        (bean & (np.abs(x - 0.08 * np.sin(6.0 * y)) < 0.04), SHADE),
    ]


def tea(x: Floats, y: Floats) -> Layers:
    leaf = disc(x - 0.3 * y, y, 0.0, 0.2, 0.2, 0.4)
    return [
        (box(x, y, -0.7, -0.35, 0.7, 0.75), BODY),
        (box(x, y, -0.75, -0.55, 0.75, -0.3), SHADE),
        (leaf, LIGHT),
        (leaf & (np.abs(x - 0.3 * y) < 0.03), SHADE),
    ]


def pet_food(x: Floats, y: Floats) -> Layers:
    ends = [disc(x, y, cx, cy, 0.24) for cx in (-0.55, 0.55) for cy in (-0.2, 0.2)]
    return [(box(x, y, -0.6, -0.17, 0.6, 0.17), BODY), *((end, BODY) for end in ends), (disc(x, y, 0, 0, 0.1), LIGHT)]


def soap(x: Floats, y: Floats) -> Layers:
    bubbles = [disc(x, y, -0.4, -0.6, 0.16), disc(x, y, 0.05, -0.72, 0.1), disc(x, y, 0.4, -0.5, 0.2)]
    return [
        (disc(x, y, 0.0, 0.25, 0.8, 0.5), BODY),
        (disc(x, y, 0.0, 0.22, 0.5, 0.26), SHADE),
        *((bubble, LIGHT) for bubble in bubbles),
    ]


def mug(x: Floats, y: Floats) -> Layers:
    handle = disc(x, y, 0.4, 0.1, 0.4) & ~disc(x, y, 0.4, 0.1, 0.24)
    return [(handle, SHADE), (box(x, y, -0.6, -0.5, 0.4, 0.7), BODY), (disc(x, y, -0.1, -0.5, 0.5, 0.12), LIGHT)]


def lamp(x: Floats, y: Floats) -> Layers:
    shade = (y > -0.8) & (y < 0.0) & (np.abs(x) < 0.3 + 0.4 * (y + 0.8))
    return [(box(x, y, -0.06, 0.0, 0.06, 0.7), SHADE), (disc(x, y, 0.0, 0.72, 0.42, 0.12), SHADE), (shade, BODY)]


def book(x: Floats, y: Floats) -> Layers:
    return [
        (box(x, y, -0.55, -0.75, 0.62, 0.8), LIGHT),
        (box(x, y, -0.6, -0.8, 0.55, 0.72), BODY),
        (box(x, y, -0.6, -0.8, -0.42, 0.72), SHADE),
        (box(x, y, -0.25, -0.5, 0.38, -0.3), LIGHT),
    ]


def plant(x: Floats, y: Floats) -> Layers:
    pot = (y > 0.2) & (y < 0.85) & (np.abs(x) < 0.5 - 0.25 * (y - 0.2))
    leaves = [disc(x + s * y * 0.6, y, 0.0, -0.3, 0.18, 0.55) for s in (-1.0, 0.0, 1.0)]
    return [*((leaf, SHADE) for leaf in leaves), (pot, BODY), (box(x, y, -0.55, 0.15, 0.55, 0.3), LIGHT)]


def shirt(x: Floats, y: Floats) -> Layers:
    sleeves = (np.abs(x) < 0.9) & (y > -0.6 + 0.4 * (np.abs(x) - 0.4)) & (y < -0.1 + 0.2 * (np.abs(x) - 0.4))
    neck = disc(x, y, 0.0, -0.62, 0.2, 0.16)
    return [(sleeves, SHADE), (box(x, y, -0.45, -0.6, 0.45, 0.8), BODY), (neck, BACKGROUND)]


def shoe(x: Floats, y: Floats) -> Layers:
    upper = box(x, y, -0.8, -0.5, -0.1, 0.4) | (disc(x, y, -0.1, 0.4, 0.85, 0.55) & (y < 0.4) & (x > -0.1))
    laces = (np.abs(np.mod(x * 5.0, 1.0) - 0.5) < 0.15) & box(x, y, -0.1, -0.1, 0.35, 0.1)
    return [(upper, BODY), (laces, LIGHT), (box(x, y, -0.85, 0.4, 0.8, 0.58), SHADE)]


def bag(x: Floats, y: Floats) -> Layers:
    handle = disc(x, y, 0.0, -0.3, 0.4, 0.55) & ~disc(x, y, 0.0, -0.3, 0.29, 0.43) & (y < -0.2)
    body = (y > -0.3) & (y < 0.8) & (np.abs(x) < 0.55 + 0.2 * (y + 0.3))
    return [(handle, SHADE), (body, BODY), (box(x, y, -0.12, 0.1, 0.12, 0.35), LIGHT)]


def toy(x: Floats, y: Floats) -> Layers:
    eyes = [disc(x, y, s * 0.22, -0.08, 0.08) for s in (-1, 1)]
    ears = [disc(x, y, s * 0.5, -0.5, 0.26) for s in (-1, 1)]
    return [
        *((ear, SHADE) for ear in ears),
        (disc(x, y, 0.0, 0.1, 0.7, 0.65), BODY),
        (disc(x, y, 0.0, 0.32, 0.3, 0.24), LIGHT),
        *((eye, SHADE) for eye in eyes),
        (disc(x, y, 0.0, 0.24, 0.09), SHADE),
    ]


SHAPES: tuple[Callable[[Floats, Floats], Layers], ...] = (
    coffee, tea, pet_food, soap, mug, lamp, book, plant, shirt, shoe, bag, toy,
)  # fmt: skip


def draw(category: int, scale: float = 1.0) -> Pixels:
    """Palette indices of one picture, (SIZE, SIZE); `scale` under 1 shrinks the shape."""
    axis = (np.arange(SIZE) + 0.5) * (2.0 / SIZE) - 1.0
    x, y = np.meshgrid(axis / scale, axis / scale)
    pixels = np.full((SIZE, SIZE), BACKGROUND, dtype=np.uint8)
    for where, index in SHAPES[category](x, y):
        pixels[where] = index
    return pixels


def palette(category: int, colour: int) -> list[Rgb]:
    """Background tinted by category; body, shade and light of the item's colour."""
    r, g, b = COLOURS[colour][1]
    tint = 225 + 3 * (category % 8)
    back = (tint, 240 - 2 * category, 222 + (7 * category) % 30)
    return [back, (r, g, b), (r * 3 // 5, g * 3 // 5, b * 3 // 5), ((r + 510) // 3, (g + 510) // 3, (b + 510) // 3)]


def png(pixels: Pixels, colours: list[Rgb]) -> bytes:
    """Palette PNG of an image (height, width) of indices into `colours` (ISO/IEC 15948)."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = pixels.shape
    rows = np.zeros((height, width + 1), dtype=np.uint8)  # column 0 is the filter type "none"
    rows[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    table = b"".join(bytes(c) for c in colours)
    body = chunk(b"IHDR", header) + chunk(b"PLTE", table) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def item_picture(category: int, colour: int, rank: int) -> bytes:
    """PNG of the item at popularity rank `rank` of its category: three sizes of the category's shape."""
    return png(draw(category, 1.0 - 0.12 * (rank % 3)), palette(category, colour))
