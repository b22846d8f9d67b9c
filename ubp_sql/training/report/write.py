"""A report from the database to a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from ubp_sql.training.report.figures_profit import Stakes
from ubp_sql.training.report.page import page
from ubp_sql.training.report.read import facts
from ubp_sql.training.whole_file import check, write_whole

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Written:
    """What `write` wrote."""

    file: Path
    bytes: int
    version: int
    users: int
    figures: list[Path]


def write(
    conn: Connection,
    task: str,
    to: Path,
    *,
    version: int | None = None,
    examples: int = 6,
    png: Path | None = None,
    stakes: Stakes | None = None,
) -> Written:
    """Writes the page, and its figures into the folder `png`; a file that is there is replaced whole or not at all.

    examples  users with high, middling and low scores, together; as many of each again that surprised; 0: none
    stakes    a gain and a cost: what acting on the highest scores would have earned is shown too

    Raises BadInput (UB003) where it cannot be written, UnknownTask (UB001), NoModelDeployed (UB004), OSError.
    """
    check(to, f"{task}.html")
    found = facts(conn, task, version, -(-examples // 3))
    text, figures = page(found, png is not None, stakes)
    images = []
    if png is not None:
        png.mkdir(parents=True, exist_ok=True)
        for figure in figures:
            images.append(png / f"{figure.name}.png")
            write_whole(images[-1], figure.png or b"")
    data = text.encode()
    write_whole(to, data)
    return Written(to, len(data), found.model.version, len(found.tests[-1].labels) if found.tests else 0, images)
