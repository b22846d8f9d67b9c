"""Draws simulator_items.png beside it: three items of each category of the simulated shop."""

from pathlib import Path

import numpy as np

from ubp_sql.sources.simulator.catalogue import CATEGORIES, COLOURS
from ubp_sql.sources.simulator.pictures import Rgb, draw, palette, png


def sheet() -> bytes:
    """PNG of three rows, by size, and a column for each category."""
    colours: list[Rgb] = []
    rows = []
    for size in range(3):
        row = []
        for category in range(len(CATEGORIES)):
            row.append(draw(category, 1.0 - 0.12 * size) + np.uint8(len(colours)))
            colours += palette(category, (3 * category + 2 * size) % len(COLOURS))
        rows.append(np.hstack(row))
    return png(np.vstack(rows), colours)


Path(__file__).with_suffix(".png").write_bytes(sheet())
