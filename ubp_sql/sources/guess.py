"""Propose a load map for a file from a look at its data; what the data do not tell is left open, never invented."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ubp_sql.errors import MapError
from ubp_sql.sources.guess_parts import NONE, UNTOLD, Part, Parts
from ubp_sql.sources.guess_sample import read_sample
from ubp_sql.sources.load_map import LoadMap

REQUIRED = ("user", "event_time", "kind")
_COLUMN = 30  # where comments begin


@dataclass(frozen=True)
class FileGuess:
    """What a file seems to be. `rows` were looked at; `notes`: what a reader of the map should know."""

    file: str
    source: str
    format: str
    settings: dict[str, object]
    rows: int
    parts: list[Part]
    attributes: dict[str, str]
    keys: list[str]
    notes: list[str]

    @property
    def open(self) -> list[str]:
        """Required parts that could not be told: the map does not load before they are filled in."""
        return [part.name for part in self.parts if part.name in REQUIRED and part.value is None]

    def with_part(self, name: str, value: Any) -> "FileGuess":
        """The same with one part as a person says it."""
        parts = [Part(p.name, value, "you said so", "", p.examples) if p.name == name else p for p in self.parts]
        return FileGuess(
            self.file, self.source, self.format, self.settings, self.rows, parts, self.attributes, self.keys, self.notes
        )

    def map_text(self) -> str:
        """The map as YAML with comments; LoadMap reads it unless something is `open`."""
        return render(self)


def guess_file(path: Path) -> FileGuess:
    """Look at a bounded part of a file and propose its map.

    Raises SourceError (UB012) for a file that cannot be read or is in no format that a load takes.
    """
    sample = read_sample(path)
    stem = _stem(path)
    found = Parts(sample.columns, stem, named=sample.settings.get("header") is not False)
    key = found.keys.value
    attributes = found.attributes
    notes = [*sample.notes, *found.notes]
    if found.userless > 0.001:
        notes.append(f"{found.userless:.1%} of the rows have no user: they are rejected, or kept by anonymous: keep")
    if unused := found.unused():
        notes.append(f"not used: {', '.join(unused[:12])}{', ...' if len(unused) > 12 else ''}")
    keys = [key] if key else []
    return _readable(
        FileGuess(str(path), stem, sample.format, sample.settings, sample.rows, found.parts, attributes, keys, notes)
    )


def _stem(path: Path) -> str:
    """The name of the feed: the file's, without endings, dates and numbers of parts."""
    name = re.sub(r"(\.(csv|tsv|txt|jsonl?|ndjson|parquet|pq|gz|zst|log))+$", "", path.name, flags=re.IGNORECASE)
    name = re.sub(r"[\W_]*\d{4}([-_]?\d{2}){0,2}$", "", name)
    name = re.sub(r"\W+", "_", name.lower()).strip("_")[:60]
    return name if name and name != "direct" else "events"


def _readable(guess: FileGuess) -> FileGuess:
    """Leave open what a map cannot say, such as a key of JSON with a `;` in its name."""
    closed = guess
    for _ in range(len(guess.parts) + 2):
        trial = closed
        for name in closed.open:
            trial = trial.with_part(name, {"constant": "x"} if name == "kind" else "x")
        try:
            LoadMap.from_text(render(trial), Path("map"))
        except MapError as error:
            field = re.search(r"map map(?: line \d+)?: (\w+)", error.message)
            name = field[1] if field else ""
            parts = [
                Part(p.name, None, UNTOLD if name in REQUIRED else NONE, f"a map cannot say it: {p.why}", p.examples)
                if p.name == name and p.value is not None
                else p
                for p in closed.parts
            ]
            kept = {} if name in ("attributes", "") else closed.attributes
            keys = [] if name in ("keys", "") else closed.keys
            closed = FileGuess(
                closed.file, closed.source, closed.format, closed.settings, closed.rows, parts, kept, keys, closed.notes
            )
        else:
            return closed
    return closed


def render(guess: FileGuess) -> str:
    """YAML by hand: a dumper writes no comments."""
    lines = [f"# proposed from {guess.rows:,} rows of {_comment(Path(guess.file).name)}: read it before you load"]
    lines += [f"# note: {_comment(note)}" for note in guess.notes]
    lines += [f"source: {_scalar(guess.source)}", f"format: {guess.format}"]
    lines += [f"{name}: {_scalar(value)}" for name, value in guess.settings.items()]
    parts = {part.name: part for part in guess.parts}
    if any("time_zone" in note for note in guess.notes):
        lines.append(_line("time_zone: UTC", "of times that name no offset"))
    for part in parts.values():
        lines += _part(part)
    if guess.attributes:
        lines.append("attributes:")
        lines += [f"  {_scalar(name)}: {_scalar(text)}" for name, text in guess.attributes.items()]
    if guess.keys:
        lines.append(_line(f"keys: [{', '.join(_scalar(key, flow=True) for key in guess.keys)}]", "tells rows apart"))
    return "\n".join(lines) + "\n"


def _part(part: Part) -> list[str]:
    if part.value is None:
        if part.sure != UNTOLD:
            return []
        lines = [f"# {part.name}: ?   cannot tell: {_comment(part.why)}"]
        return lines + [f"#   {part.name}: {_value(choice)}" for choice in part.choices]
    note = _comment(f"{part.sure}: {part.why}" if part.why else part.sure)
    if isinstance(part.value, list):
        rules = [f"  - {_scalar(name)}: {_scalar(text)}" for rule in part.value for name, text in rule.items()]
        return [_line(f"{part.name}:", note), *rules]
    return [_line(f"{part.name}: {_value(part.value)}", note)]


def _line(text: str, comment: str) -> str:
    return f"{text:<{_COLUMN - 2}}  # {comment}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_scalar(text, flow=True)}" for name, text in value.items()) + "}"
    return _scalar(value)


def _scalar(value: object, flow: bool = False) -> str:
    """One value on one line, quoted where YAML would read something else."""
    if isinstance(value, str) and not value.isprintable():
        return json.dumps(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=1 << 20).strip()[1:-1]
    # The dumper quotes commas and brackets, which only matter in a list.
    if isinstance(value, str) and not flow and " #" not in value:
        try:
            if yaml.safe_load(f"k: {value}") == {"k": value}:
                return value
        except yaml.YAMLError:
            return text
    return "true" if value == "true" else text


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else "·" for c in text)
