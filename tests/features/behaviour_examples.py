"""The worked examples of docs/behaviour-features.md: tables of events, each followed by a table of values."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from tests.reference_behaviour import Event

DOCUMENT = Path(__file__).parents[2] / "docs" / "behaviour-features.md"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AS_OF = re.compile(r"as of (\d{4}-\d\d-\d\d \d\d:\d\d)\.")
# What the document says that the words hash to.
HASHES = re.compile(r"([a-z]+) (\d+)(?=[,.])")
LISTS = ("steps", "kinds", "until")


class Example(NamedTuple):
    """One row of a table of values. `values` has one text a column of the feature."""

    section: str
    aggregate: str
    settings: dict[str, Any]
    window: str
    values: list[str]
    as_of: int
    events: list[Event]

    @property
    def name(self) -> str:
        shown = "; ".join(f"{key} = {value}" for key, value in self.settings.items())
        return f"{self.aggregate} {shown} {self.window}"


def examples() -> Iterator[Example]:
    """Every row of values in the document, with the events above it."""
    for part in re.split(r"\n## ", DOCUMENT.read_text())[1:]:
        if "\nExample: " not in part:
            continue
        section, example = part.split("\n")[0], part.split("\nExample: ")[1]
        as_of = AS_OF.search(example)
        assert as_of is not None, section
        moment = microseconds(as_of[1])
        hashes = {word: int(number) for word, number in HASHES.findall(example.split("\n|")[0])}
        happened, said = [_rows(table) for table in re.findall(r"(?:^\|.*\n?)+", example, re.MULTILINE)]
        events = [_event(i, row, hashes) for i, row in enumerate(happened)]
        for row in said:
            values = row["value"].split(", ")
            yield Example(section, row["aggregate"], _settings(row["settings"]), row["window"], values, moment, events)


def microseconds(text: str) -> int:
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


def _rows(table: str) -> list[dict[str, str]]:
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.strip().split("\n")]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def _event(i: int, row: dict[str, str], hashes: dict[str, int]) -> Event:
    words = re.findall(r"[a-z0-9]+", row.get("words", "").lower())
    t, item = microseconds(row["time"]), row.get("item")
    return Event(t, t, i, row["kind"], int(item) if item else None, frozenset(hashes[word] for word in words))


def _settings(text: str) -> dict[str, Any]:
    parts = dict(part.split(" = ") for part in text.split("; "))
    typed = {key: int(value) if value.isdigit() else value for key, value in parts.items()}
    return {key: str(value).split(", ") if key in LISTS else value for key, value in typed.items()}
