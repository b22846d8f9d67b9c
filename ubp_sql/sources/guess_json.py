"""Lines of JSON as a sample of columns: values inside of objects, and the array whose elements are events."""

import io
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ubp_sql.errors import SourceError
from ubp_sql.sources import guess_names
from ubp_sql.sources.guess_bytes import Text
from ubp_sql.sources.guess_values import Column, quoted
from ubp_sql.sources.rows import MAX_COLUMNS

ROWS = 10_000
EVERYWHERE = 0.95  # share of the lines that must have an array whose elements are the events
_DEEPEST = 4  # levels that are looked into


@dataclass
class Sample:
    """What was seen of a file. `settings` are the map's fields that say how to read it."""

    format: str
    columns: list[Column]
    rows: int
    settings: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_lines(text: Text, path: Path) -> Sample:
    """Raises SourceError (UB012) where no line is a JSON object."""
    documents: list[dict[str, Any]] = []
    head = broken = 0
    for number, piece in enumerate([text.head, *text.places]):
        for line in io.StringIO(piece, newline="\n"):
            if len(documents) >= ROWS and number == 0:
                break
            if not line.strip():
                continue
            try:
                document = json.loads(line, parse_int=str, parse_float=str, parse_constant=_refuse)
            except (ValueError, RecursionError):
                document = None
            if isinstance(document, dict):
                documents.append(document)
            else:
                broken += 1
        head = head or len(documents)
    if not documents:
        hint = f"jq -c . {path} > events.jsonl makes a line of it"
        raise SourceError(f"{path} begins like JSON, but no line of it is a JSON object", hint)
    notes = list(text.notes)
    if broken:
        notes.append(f"{broken:,} lines are not JSON objects and will be rejected")
    settings: dict[str, object] = {}
    if text.encoding != "utf-8":
        settings["encoding"] = text.encoding
    records = _records_path(documents)
    rows: list[tuple[dict[str, Any], dict[str, Any] | None]] = [(document, None) for document in documents]
    if records is not None:
        settings["records"] = ".".join(records)
        rows = []
        for document in documents:
            rows += [(document, e) for e in _inside(document, records) or [] if isinstance(e, dict)]
        rows = rows[:ROWS]
        head = sum(len(_inside(d, records) or []) for d in documents[:head])
    columns = _json_columns(rows, min(head, len(rows)), records)
    return Sample("jsonl", columns, len(rows), settings, notes)


def _refuse(text: str) -> None:
    raise ValueError(text)


def _inside(document: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document if isinstance(document, list) else None


def _records_path(documents: list[dict[str, Any]]) -> tuple[str, ...] | None:
    """The array whose elements are the events: one of objects that have a time, a kind or an item."""
    found: Counter[tuple[str, ...]] = Counter()
    names: dict[tuple[str, ...], set[str]] = {}

    def walk(value: dict[str, Any], path: tuple[str, ...]) -> None:
        for key, inner in value.items():
            if not re.fullmatch(r"[\w-]+", key):
                continue
            if isinstance(inner, dict) and len(path) < _DEEPEST:
                walk(inner, (*path, key))
            elif isinstance(inner, list) and inner and all(isinstance(element, dict) for element in inner):
                found[(*path, key)] += len(inner)
                names.setdefault((*path, key), set()).update(*inner)

    for document in documents[:500]:
        walk(document, ())
    parts = ("event_time", "kind", "item")
    able = [p for p in found if any(guess_names.score(part, name) >= 0.5 for name in names[p] for part in parts)]
    # A line without the array would be rejected.
    able = [p for p in able if sum(_inside(d, p) is not None for d in documents) >= EVERYWHERE * len(documents)]
    return max(able, key=lambda path: found[path]) if able else None


def _json_columns(
    rows: list[tuple[dict[str, Any], dict[str, Any] | None]], head: int, records: tuple[str, ...] | None
) -> list[Column]:
    places: dict[tuple[str, tuple[str, ...]], list[str | None]] = {}

    def note(level: str, value: dict[str, Any], path: tuple[str, ...], row: int) -> None:
        for key, inner in value.items():
            here = (*path, key)
            if (level == "doc" and here == records) or not key.isprintable():
                continue
            if isinstance(inner, dict):
                if len(here) < _DEEPEST:
                    note(level, inner, here, row)
            elif (not isinstance(inner, list) and len(places) < MAX_COLUMNS) or (level, here) in places:
                column = places.setdefault((level, here), [None] * len(rows))
                column[row] = _scalar(inner)

    for row, (document, element) in enumerate(rows):
        note("doc", document, (), row)
        if element is not None:
            note("record", element, (), row)
    columns = []
    for (level, path), values in places.items():
        steps = [quoted(key) for key in path]
        word = "->".join([level, *steps[:-1]]) + "->>" + steps[-1]
        columns.append(Column(".".join(path), f"({word})", word, values, head))
    return columns


def _scalar(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) and value else None
