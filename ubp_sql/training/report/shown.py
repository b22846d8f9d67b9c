"""What the template is given: text that is ready to be read, still unescaped."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Fact(NamedTuple):
    name: str
    value: str


class Cell(NamedTuple):
    text: str
    small: str = ""


class Row(NamedTuple):
    """`bar`: width in percent of a bar at the row's end; None: the table has none."""

    cells: list[Cell]
    bar: float | None = None


@dataclass(frozen=True)
class Table:
    caption: str
    heads: list[str]
    rows: list[Row] = field(default_factory=list)


class ShownReason(NamedTuple):
    meaning: str
    small: str


class ShownExample(NamedTuple):
    key: str
    score: str
    small: str
    reasons: list[ShownReason]


class ShownGroup(NamedTuple):
    title: str
    said: str
    examples: list[ShownExample]
