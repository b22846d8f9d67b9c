"""What a user says of one feature, checked word by word: aggregate, kinds, column, window, condition, settings.

Imports neither NumPy nor the aggregates: whether an aggregate knows a setting is checked where it is compiled.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from ubp_sql.errors import BadInput
from ubp_sql.features.names import MAX_KIND_CHARS, checked_kind
from ubp_sql.features.windows import ALL, Window, is_window, parse_window, shown

MAX_KINDS_A_FEATURE = 16
MAX_NAME = 63
FIELDS = ("name", "aggregate", "kinds", "of", "window", "where", "against", "settings")
VIEW_COLUMNS = ("user_id", "as_of")

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_COLUMN = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Condition(NamedTuple):
    """An event counts when `column` lies in [low, high) (a number) or equals `equals` (a number or a text)."""

    column: str
    low: float | None = None
    high: float | None = None
    equals: int | float | str | None = None

    def to_json(self) -> Any:
        if self.equals is not None:
            return self.equals
        return {k: v for k, v in (("min", self.low), ("below", self.high)) if v is not None}


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One definition of the catalogue; one that makes several columns names them <name>_1, <name>_2, ...

    name       column name in ubp.user_features
    aggregate  what is computed: a key of `aggregates.RULES`
    kinds      event kinds it looks at, together
    of         the column that it is about, None for the events themselves
    window     when
    where      conditions on the event, at most one on a number and one on a key
    against    a longer window (trend, ratio) or other kinds (share, dwell), else None
    settings   what else the aggregate takes
    """

    name: str
    aggregate: str
    kinds: tuple[str, ...] = ()
    of: str | None = None
    window: Window = ALL
    where: tuple[Condition, ...] = ()
    against: Window | tuple[str, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_parts(
        cls,
        name: Any,
        aggregate: Any,
        kinds: Any = None,
        of: Any = None,
        window: Any = None,
        settings: Any = None,
    ) -> Self:
        """The spec of ubp.define_feature's arguments; `where` and `against` stand in the settings.

        Raises BadInput (UB003) on what is no name, window, condition or list of kinds.
        """
        name = _checked_name(name)
        if not isinstance(aggregate, str):
            raise BadInput(f"feature {name!r}: aggregate {shown(aggregate)} is not text", "for example 'count'")
        if settings is None:
            settings = {}
        if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
            raise BadInput(
                f"feature {name!r}: settings {shown(settings)} are no object of names and values",
                """for example '{"half_life": "30d"}'""",
            )
        rest = {key: value for key, value in settings.items() if key not in ("where", "against")}
        return cls(
            name,
            aggregate,
            checked_kinds(kinds, "kinds", name),
            None if of is None else _column(of, name),
            parse_window("all" if window is None else window, name),
            _where(settings.get("where"), name),
            _against(settings.get("against"), name),
            _plain(rest, name),
        )

    @classmethod
    def from_mapping(cls, found: Any) -> Self:
        """The spec of an entry of a YAML or JSON file, with the fields of the class.

        Raises BadInput (UB003) as `from_parts`, and on an unknown field.
        """
        if not isinstance(found, dict):
            raise BadInput(f"a feature is {shown(found)}, not a list of fields", "name, aggregate, kinds, window, ...")
        for key in found:
            if key not in FIELDS:
                raise BadInput(
                    f"feature {shown(found.get('name'))}: there is no field {shown(key)}",
                    f"fields: {', '.join(FIELDS)}; what else an aggregate takes stands below settings",
                )
        settings = {} if found.get("settings") is None else found["settings"]
        extra = {key: found[key] for key in ("where", "against") if found.get(key) is not None}
        if extra and not isinstance(settings, dict):
            raise BadInput(f"feature {shown(found.get('name'))}: settings {shown(settings)} are no object")
        for key in extra:
            if key in settings:
                raise BadInput(f"feature {shown(found.get('name'))}: {key} stands twice", "keep one of the two")
        merged = {**settings, **extra} if isinstance(settings, dict) else settings
        return cls.from_parts(
            found.get("name"), found.get("aggregate"), found.get("kinds"), found.get("of"), found.get("window"), merged
        )

    def to_json(self) -> dict[str, Any]:
        """The fields that differ from their defaults, to be read back by `from_mapping`; equal for equal specs."""
        parts: dict[str, Any] = {"name": self.name, "aggregate": self.aggregate}
        if self.kinds:
            parts["kinds"] = list(self.kinds)
        if self.of is not None:
            parts["of"] = self.of
        if self.window.form != "all":
            parts["window"] = self.window.text
        if self.where:
            parts["where"] = {c.column: c.to_json() for c in self.where}
        if self.against is not None:
            parts["against"] = self.against.text if isinstance(self.against, Window) else list(self.against)
        if self.settings:
            parts["settings"] = dict(self.settings)
        return parts

    def canonical(self) -> str:
        """What the set's hash is made of."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise BadInput(
            f"{shown(name)} is no name for a feature",
            f"lower-case letters, digits and _, a letter first, at most {MAX_NAME}: it names a column",
        )
    if name in VIEW_COLUMNS:
        raise BadInput(f"{name!r} is a column of ubp.user_features already", "give the feature another name")
    return name


def _column(of: Any, name: str) -> str:
    if not isinstance(of, str) or not _COLUMN.fullmatch(of):
        raise BadInput(f"feature {name!r}: {shown(of)} is no column", "value, quantity, duration_s, item, order, day")
    return of


def checked_kinds(kinds: Any, what: str, name: str) -> tuple[str, ...]:
    if kinds is None:
        return ()
    if isinstance(kinds, str):
        kinds = [kinds]
    if not isinstance(kinds, list | tuple) or not 1 <= len(kinds) <= MAX_KINDS_A_FEATURE:
        raise BadInput(
            f"feature {name!r}: {what} {shown(kinds)} are not 1 to {MAX_KINDS_A_FEATURE} event kinds",
            "array['purchase'] or, in a file, [purchase]",
        )
    for kind in kinds:
        checked_kind(kind)
    if len(set(kinds)) < len(kinds):
        raise BadInput(f"feature {name!r}: a kind comes twice in {shown(list(kinds))}", "name it once")
    return tuple(kinds)


def _against(value: Any, name: str) -> Window | tuple[str, ...] | None:
    """A window where the text is one ('90d', 'all'), else kinds; a kind called so is written as a list."""
    if value is None:
        return None
    if isinstance(value, str) and is_window(value):
        return parse_window(value, name)
    return checked_kinds(value, "against", name)


def _where(value: Any, name: str) -> tuple[Condition, ...]:
    if value is None:
        return ()
    if not isinstance(value, dict) or not 1 <= len(value) <= 2:
        raise BadInput(
            f"feature {name!r}: where {shown(value)} is no condition on one or two columns",
            """{"value": {"min": 10, "below": 50}} or {"item": 17}""",
        )
    return tuple(_condition(_column(column, name), value[column], name) for column in sorted(value, key=str))


def _condition(column: str, value: Any, name: str) -> Condition:
    hint = """{"min": 10, "below": 50}, one of the two, or the number or text that it must equal"""
    if isinstance(value, dict):
        ends = [_number(value.get(key), f"{column} {key}", name) for key in ("min", "below") if key in value]
        if not ends or set(value) - {"min", "below"}:
            raise BadInput(f"feature {name!r}: {shown(value)} is no condition on {column}", hint)
        low = _number(value["min"], f"{column} min", name) if "min" in value else None
        high = _number(value["below"], f"{column} below", name) if "below" in value else None
        if low is not None and high is not None and low >= high:
            raise BadInput(f"feature {name!r}: no {column} is at least {low} and below {high}", hint)
        return Condition(column, low, high)
    if isinstance(value, str):
        if not 1 <= len(value) <= MAX_KIND_CHARS or not is_text(value):
            raise BadInput(f"feature {name!r}: {shown(value)} is no text that {column} could equal", hint)
        return Condition(column, equals=value)
    if isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) < value < 1 << 63:
        return Condition(column, equals=value)
    if isinstance(value, float) and math.isfinite(value):
        return Condition(column, equals=value)
    raise BadInput(f"feature {name!r}: {shown(value)} is no condition on {column}", hint)


def is_text(text: str) -> bool:
    """Whether PostgreSQL can hold it: no NUL, no lone surrogate."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _number(value: Any, what: str, name: str) -> float:
    """A finite number, as a float: 10 and 10.0 are one setting."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput(f"feature {name!r}: {what} {shown(value)} is not a number", "for example 10 or 2.5")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadInput(f"feature {name!r}: {what} {shown(value)} is not a finite number", "for example 10 or 2.5")
    return number


def _plain(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """Settings of plain values and lists of them: what else they may be is the aggregate's to say."""
    for key, value in settings.items():
        flat = value if isinstance(value, list) else [value]
        for item in flat:
            finite = not isinstance(item, float) or math.isfinite(item)
            if not isinstance(item, str | int | float) or not finite or (isinstance(item, str) and not is_text(item)):
                raise BadInput(
                    f"feature {name!r}: setting {shown(key)} is {shown(value)}", "a number, a text or a list of those"
                )
    return dict(sorted(settings.items()))
