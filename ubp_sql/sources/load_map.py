"""The load map: a YAML file that says which column or SQL expression of a file is the user, the time, the kind, ..."""

import codecs
import difflib
import zoneinfo
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from ubp_sql.errors import MapError
from ubp_sql.expressions import check_text
from ubp_sql.sources.plain_yaml import ERRORS, PlainLoader, problem_of

SHIPPED = Path(__file__).parent / "maps"
MOST_CHARACTERS = 1 << 16
"""Ten times what a long map has. PyYAML takes half a second for so many."""


def _scalar_text(value: object) -> object:
    """YAML reads `1` and `true` as a number and a boolean; as expressions they are text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _expression(text: str) -> str:
    if problem := check_text(text):
        raise ValueError(problem)
    return text.strip()


def _ascii_character(text: str) -> str:
    if len(text) != 1 or not text.isascii() or text in "\r\n\0":
        raise ValueError("one ASCII character is needed")
    return text


Expression = Annotated[str, BeforeValidator(_scalar_text), AfterValidator(_expression)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^\S(.*\S)?$")]
Character = Annotated[str, AfterValidator(_ascii_character)]


class Constant(BaseModel):
    """`kind: {constant: view}`: every row of the file is of this kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    constant: Name


class LoadMap(BaseModel):
    """What each part of an event is in a file; see docs/load-map.md for every field."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Name
    format: Literal["csv", "tsv", "jsonl", "parquet"]
    delimiter: Character = ","
    quote: Character | None = '"'
    header: bool | Annotated[list[Name], Field(min_length=1)] = True
    encoding: str = "utf-8"
    time_zone: str = "UTC"
    records: Annotated[str, StringConstraints(pattern=r"^[\w-]+(\.[\w-]+)*$")] | None = None

    user: Expression
    event_time: Expression
    kind: Expression | Constant | Annotated[list[dict[Name, Expression]], Field(min_length=1)]
    item: Expression | None = None
    value: Expression | None = None
    quantity: Expression | None = None
    duration_s: Expression | None = None
    order_id: Expression | None = None
    attributes: dict[Name, Expression] = Field(default_factory=dict)
    ingested_at: Expression | None = None
    ingested: Literal["event_time", "now"] = "event_time"
    keys: list[Expression] = Field(default_factory=list)
    user_keys: Literal["auto", "integer", "text"] = "auto"
    item_keys: Literal["auto", "integer", "text"] = "auto"
    allow_future: bool = False
    anonymous: Literal["reject", "keep"] = "reject"

    _file: str = PrivateAttr(default="")
    _lines: dict[str, int] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _tabs(cls, content: Any) -> Any:
        if isinstance(content, dict) and content.get("format") == "tsv":
            return {"delimiter": "\t", **content}
        return content

    @field_validator("source")
    @classmethod
    def _not_direct(cls, name: str) -> str:
        if name == "direct":
            raise ValueError("'direct' names plain INSERTs; choose another name")
        return name

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        try:
            info = codecs.lookup(name)
            "a".encode(name)
        except (LookupError, ValueError, TypeError) as error:
            raise ValueError(f"no text encoding is called {name[:60]!r}") from error
        return "utf-8" if info.name == "utf-8-sig" else info.name

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            # A machine without a zone database knows no name; the server then has the last word.
            if zoneinfo.available_timezones():
                raise ValueError(f"no time zone is called {name[:60]!r}") from error
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.kind, list):
            for rule in self.kind:
                if len(rule) != 1:
                    raise ValueError("kind: a rule is one line, `- name: condition`")
        if self.format != "jsonl" and self.records is not None:
            raise ValueError("records: only a jsonl file has records inside a line")
        if self.format == "parquet" and self.header is not True:
            raise ValueError("header: a parquet file names its columns itself")
        if self.ingested_at is not None and self.ingested == "now":
            raise ValueError("ingested: give ingested_at or `ingested: now`, not both")
        if "order_id" in self.attributes:
            raise ValueError("attributes: order_id has a field of its own")
        if self.format in ("csv", "tsv") and self.quote == self.delimiter:
            raise ValueError("quote: must differ from the delimiter")
        return self

    @property
    def shipped(self) -> bool:
        """Is it one of the maps that came with the package?"""
        return self._file != "" and Path(self._file).resolve().parent == SHIPPED.resolve()

    @property
    def rules(self) -> list[tuple[str, str]]:
        """The kind's rules as (name, condition), in order; empty where the kind is one expression or a constant."""
        return [pair for rule in self.kind for pair in rule.items()] if isinstance(self.kind, list) else []

    def where(self, field: str) -> str:
        """File, line and name of a field, as error messages start."""
        line = self._lines.get(field) or self._lines.get(field.partition(".")[0])
        place = f"{self._file} line {line}, " if self._file and line else ""
        return f"map {place}field {field}"

    def ingested_now(self) -> "LoadMap":
        """The same map for late data: ingested_at is the moment of the load."""
        return self.model_copy(update={"ingested": "now", "ingested_at": None})

    @classmethod
    def from_file(cls, path: str | Path) -> "LoadMap":
        """Read and check a map; a bare name such as `online_retail` is one of the maps that ship with the package.

        Raises MapError (UB008), with file, line and field, for a missing file, bad YAML, an unknown or missing field,
        and text that cannot be an expression. Whether columns exist is checked against the file's header, by a load.
        """
        file = _find(path)
        try:
            text = file.read_text(encoding="utf-8-sig")
        except (UnicodeDecodeError, OSError) as error:
            raise MapError(f"map {file} cannot be read: {error}", "a map is a YAML file in UTF-8") from error
        return cls.from_text(text, file)

    @classmethod
    def from_text(cls, text: str, file: Path) -> "LoadMap":
        """As from_file, of a file whose text was read."""
        if len(text) > MOST_CHARACTERS:
            problem = f"map {file} has {len(text):,} characters, at most {MOST_CHARACTERS:,} are read"
            raise MapError(problem, "see docs/load-map.md for an example")
        try:
            tree = yaml.compose(text, Loader=PlainLoader)
            content = yaml.load(text, Loader=PlainLoader)  # noqa: S506 - a SafeLoader
        except ERRORS as error:
            number, problem = problem_of(error)
            line = f" line {number}" if number else ""
            raise MapError(f"map {file}{line}: not YAML: {problem}", "see docs/load-map.md for an example") from error
        if not isinstance(content, dict):
            raise MapError(f"map {file} holds no fields", "see docs/load-map.md for an example")
        lines: dict[str, int] = {}
        if twice := _note_lines(tree, "", lines):
            raise MapError(f"map {file} line {lines[twice]}: {twice} is given twice", "keep one of the two")
        try:
            load_map = cls.model_validate(content)
        except ValidationError as error:
            raise MapError(*_explain(error, str(file), lines)) from error
        load_map._file, load_map._lines = str(file), lines
        return load_map


def _find(path: str | Path) -> Path:
    file = Path(path)
    if file.is_file():
        return file
    shipped = {p.stem: p for p in SHIPPED.glob("*.yaml")}
    if str(path) in shipped:
        return shipped[str(path)]
    problem = "is a directory" if file.is_dir() else "does not exist"
    raise MapError(f"map {path} {problem}", f"maps that ship with the package: {', '.join(sorted(shipped))}")


def _note_lines(node: Any, prefix: str, lines: dict[str, int]) -> str | None:
    """Fill `lines` with the line of every field; return the first field that stands twice in one mapping."""
    twice = None
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = f"{prefix}{getattr(key, 'value', '')}"
            lines[name] = key.start_mark.line + 1
            if name in seen:
                return name
            seen.add(name)
            twice = twice or _note_lines(value, f"{name}.", lines)
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(node.value):
            lines[f"{prefix}{place}"] = value.start_mark.line + 1
            twice = twice or _note_lines(value, f"{prefix}{place}.", lines)
    return twice


_FIELD_HINTS = {
    "kind": "kind is an expression, {constant: NAME}, or a list of rules `- NAME: condition`",
    "time_zone": "write a name such as Europe/London or UTC",
    "encoding": "write a name such as utf-8, cp1252 or utf-16",
}


def _explain(error: ValidationError, file: str, lines: dict[str, int]) -> tuple[str, str]:
    """The first problem as one line and a hint; pydantic's own branches of a union are not part of the field's name."""
    problems = error.errors()
    # A misspelt field is also a missing one: the misspelling says more.
    first = next((p for p in problems if p["type"] == "extra_forbidden" and len(p["loc"]) == 1), problems[0])
    parts: list[str] = []
    for part in first["loc"]:
        name = ".".join([*parts, str(part)])
        if parts and name not in lines:
            break
        parts.append(str(part))
    field = ".".join(parts)
    place = f" line {lines[field]}" if field in lines else ""
    field = "".join(c if c.isprintable() else "?" for c in field[:80])
    hint = f"fields: {', '.join(LoadMap.model_fields)}"
    if first["type"] == "extra_forbidden":
        meant = difflib.get_close_matches(field, LoadMap.model_fields, n=1)
        return f"map {file}{place}: unknown field {field}{f', did you mean {meant[0]}?' if meant else ''}", hint
    if first["type"] == "missing":
        return f"map {file}: field {field} is missing", hint
    text = str(first["ctx"]["error"]) if "error" in first.get("ctx", {}) else first["msg"]
    hint = _FIELD_HINTS.get(parts[0] if parts else "", "see docs/load-map.md")
    return f"map {file}{place}: {field + ': ' if field else ''}{text}", hint
