"""A feature set: its specs in order, the columns they make, and a hash that models are pinned to.

Imports no NumPy: a session that scores stored rows may ask for names. The plan is made when it is asked for.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from ubp_sql.errors import BadInput
from ubp_sql.features.aggregates import RULES
from ubp_sql.features.columns import KEYS, NUMBERS, Columns, Declared, types_of
from ubp_sql.features.compile import (
    checked_spec,
    columns_of,
    kinds_of,
    names_of,
    parts_of,
    plan_of,
    read_columns,
    values_of,
)
from ubp_sql.features.describe import cost, edge_rule, words_of
from ubp_sql.features.families import standard_specs
from ubp_sql.features.names import slug
from ubp_sql.features.spec import FeatureSpec
from ubp_sql.features.windows import DAY_US, MAX_DAYS, shown
from ubp_sql.kernels.codes import MAX_KINDS

if TYPE_CHECKING:
    from ubp_sql.kernels.dispatch import Plan

SEMANTICS_VERSION = 2
"""Raised when any feature's value changes for the same spec: the hash changes with it."""
DEFAULT_WINDOWS_DAYS = (7, 14, 30, 60, 90, 180)
MAX_WINDOWS = 32
MAX_COLUMNS = 1600
"""PostgreSQL's limit of a table."""
KEY_COLUMNS = 8
"""Columns of that kept for the user, the moment and other keys beside the features."""
_FIELDS = {"semantics", "kinds", "windows_days", "features", "columns", "hash"}


@dataclass(frozen=True, slots=True)
class FeatureDefinition:
    """One column of a set. Its words are made when they are asked for: most sessions need names only.

    position  0-based place in the row
    name      column name
    spec      what it was made of
    part      which of the spec's columns it is, from 0
    detail    what the aggregate says of that column
    bucket    of a tumbling window, 0 the newest
    """

    position: int
    name: str
    spec: FeatureSpec
    part: int
    detail: str
    bucket: int

    @property
    def family(self) -> str:
        """The aggregate."""
        return self.spec.aggregate

    @property
    def kind(self) -> str:
        """The event kind that is its subject; of several, all of them."""
        return ", ".join(self.spec.kinds or self.spec.settings.get("steps", ()))

    @property
    def window_days(self) -> int | None:
        """Width of [as_of - width, as_of) in whole days; None: lifetime, or no such number."""
        window = self.spec.window
        whole = window.form == "width" and window.width_us % DAY_US == 0
        return window.width_us // DAY_US if whole else None

    @property
    def sql_type(self) -> str:
        """integer for counts and codes, else real."""
        return "integer" if RULES[self.family].integer else "real"

    @property
    def unit(self) -> str:
        """Unit of the value, for people."""
        return self._words()["unit"]

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return self._words()["meaning"]

    @property
    def null_rule(self) -> str:
        """When the value is NULL, or what stands in its place."""
        return self._words()["null_rule"]

    @property
    def edge_rule(self) -> str:
        """Which events its window takes."""
        return edge_rule(self.spec, self.bucket)

    @property
    def cost(self) -> str:
        """Which events are looked at, and the bytes of each."""
        return cost(self.spec, set(columns_of(self.spec)))

    def _words(self) -> dict[str, str]:
        return words_of(self.spec, values_of(self.spec), self.detail, self.bucket)


@dataclass(frozen=True)
class FeatureSetDefinition:
    """The standard features of `kinds` over `windows_days`, and the specs of `more` after them.

    kinds         event kinds, any text; of a standard set the first is the main one, which gaps, shares and rhythm are
                  about. Kinds that only `more` names stand at the end: a kind's index is its code in Events.kind
    windows_days  widths in days, 1..36,500, at most 31, kept in ascending order; none: no standard features
    more          further specs, in row order
    declared      the declared event columns there are; kept are those that a spec reads
    specs         derived: all specs, in row order
    features      derived: the columns, in row order
    columns       derived: what is read of each event
    hash          derived: SHA-256 in hex, a chain over the specs: a set's first n specs keep their hash when it grows

    Raises BadInput (UB003) on kinds, windows and specs that cannot be, on names that come twice, and on a set that
    would not fit a table of PostgreSQL.
    """

    kinds: tuple[str, ...]
    windows_days: tuple[int, ...] = DEFAULT_WINDOWS_DAYS
    more: tuple[FeatureSpec, ...] = ()
    declared: tuple[Declared, ...] = ()
    standard_kinds: tuple[str, ...] = field(init=False, repr=False)
    specs: tuple[FeatureSpec, ...] = field(init=False, repr=False, compare=False)
    features: tuple[FeatureDefinition, ...] = field(init=False, repr=False, compare=False)
    columns: Columns = field(init=False, repr=False, compare=False)
    hash: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        standard = bool(self.windows_days or not self.more)
        kinds = _checked_kinds(self.kinds) if standard else ()
        windows = _checked_windows(self.windows_days) if standard else ()
        _set(self, "standard_kinds", kinds)
        _set(self, "windows_days", windows)
        types = types_of(self.declared)
        first = standard_specs(kinds, windows) if standard else ()
        begun = tuple(checked_spec(spec, types) for spec in first)
        earlier = {name: spec for spec in begun for name in names_of(spec)}
        _set(self, "more", tuple(_checked_in_order(self.more, types, earlier)))
        specs = (*begun, *self.more)
        _set(self, "kinds", tuple(dict.fromkeys([*kinds, *(kind for spec in specs for kind in kinds_of(spec))])))
        if len(self.kinds) > MAX_KINDS:
            raise BadInput(
                f"a feature set of {len(self.kinds)} event kinds, more than {MAX_KINDS}",
                "make a second set for the rest; docs/features.md says how attributes of users share one kind",
            )
        _set(self, "specs", specs)
        _set(self, "features", tuple(_columns(specs)))
        self._check_names()
        used = {name for spec in specs for name in columns_of(spec)} - {*NUMBERS, *KEYS}
        _set(self, "declared", tuple(column for column in self.declared if column.name in used))
        _set(self, "columns", read_columns(specs, types))
        _set(self, "hash", _chain(specs, self.declared))

    def __hash__(self) -> int:
        return hash(self.hash)

    def _check_names(self) -> None:
        if len(self.features) > MAX_COLUMNS - KEY_COLUMNS:
            raise BadInput(
                f"{len(self.kinds)} kinds over {len(self.windows_days)} windows make {len(self.features)} features, "
                f"more than the {MAX_COLUMNS - KEY_COLUMNS} columns that a table of PostgreSQL has room for",
                "Name fewer kinds or fewer windows, or make a second set.",
            )
        seen: dict[str, FeatureDefinition] = {}
        for feature in self.features:
            if seen.setdefault(feature.name, feature) is not feature:
                raise BadInput(
                    f"two features are called {feature.name!r}", f"rename the {feature.family} of {feature.spec.name!r}"
                )

    @property
    def n_features(self) -> int:
        return len(self.features)

    @property
    def uses_holidays(self) -> bool:
        """Whether a value depends on ubp.calendar."""
        return any("holiday" in columns_of(spec) for spec in self.specs)

    @cached_property
    def standings(self) -> tuple[FeatureDefinition, ...]:
        """The features that set a user beside all users: what the plan gives of them is not yet the value."""
        return tuple(feature for feature in self.features if RULES[feature.family].standing)

    @cached_property
    def plan(self) -> "Plan":
        """What the kernels run: all features in one pass. Imports NumPy."""
        return plan_of(self.specs, self.kinds, self.columns)

    @cached_property
    def plan_blob(self) -> bytes:
        """The plan as ubp.feature_sets keeps it and native code reads it. Imports NumPy."""
        from ubp_sql.kernels.live_plan import with_names
        from ubp_sql.kernels.plan_blob import pack_plan

        numbers, keys, local = self.columns
        return with_names(pack_plan(self.plan), self.kinds, numbers, keys, local=local, holidays=self.uses_holidays)

    def grown(self, specs: Iterable[FeatureSpec], declared: Sequence[Declared] = ()) -> Self:
        """The set with further specs at its end; a spec that is there already changes nothing.

        Raises BadInput (UB003) where a name is taken by another definition.
        """
        columns = {column.name: column for column in (*declared, *self.declared)}
        known = {spec.name: spec for spec in self.specs}
        earlier = {feature.name: feature.spec for feature in self.features}
        new: list[FeatureSpec] = []
        for spec in _checked_in_order(specs, types_of(tuple(columns.values())), earlier):
            there = known.setdefault(spec.name, spec)
            if there is spec:
                new.append(spec)
            elif there.canonical() != spec.canonical():
                raise BadInput(
                    f"feature {spec.name!r} exists with another definition: {there.canonical()}",
                    "a set only grows: give the changed feature another name, or define it in a set of its own "
                    "(ubp.copy_feature_set makes one of the same features)",
                )
        if not new:
            return self
        return type(self)(self.standard_kinds, self.windows_days, (*self.more, *new), tuple(columns.values()))

    def lifetime_count(self, kind: str) -> int | None:
        """Position of the number of events of `kind` so far, if the set has it."""
        for f in self.features:
            spec = f.spec
            if spec.aggregate == "count" and spec.kinds == (kind,) and spec.window.form == "all" and not spec.where:
                return f.position
        return None

    def to_json(self) -> str:
        """The set as JSON text, to be read back by `from_json`."""
        parts = {
            "semantics": SEMANTICS_VERSION,
            "kinds": self.standard_kinds,
            "windows_days": self.windows_days,
            "features": [spec.to_json() for spec in self.more],
            "columns": [column._asdict() for column in self.declared],
            "hash": self.hash,
        }
        return json.dumps(parts, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The set of `to_json`.

        Raises BadInput (UB003) on text that is no such JSON, has other fields, or was written by a version of this
        package in which the same features had another meaning.
        """
        try:
            parts: Any = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise BadInput(f"feature set: not JSON ({error})") from None
        if not isinstance(parts, dict) or set(parts) != _FIELDS:
            raise BadInput(f"feature set: wants the fields {', '.join(sorted(_FIELDS))}, and no other")
        if not all(isinstance(parts[name], list) for name in ("kinds", "windows_days", "features", "columns")):
            raise BadInput("feature set: kinds, windows_days, features and columns must be lists")
        definition = cls(
            tuple(parts["kinds"]),
            tuple(parts["windows_days"]),
            tuple(map(FeatureSpec.from_mapping, parts["features"])),
            tuple(map(_declared, parts["columns"])),
        )
        if parts["semantics"] != SEMANTICS_VERSION or parts["hash"] != definition.hash:
            raise BadInput(
                f"feature set: hash {shown(parts['hash'])} of semantics {shown(parts['semantics'])} is not this "
                f"version's {definition.hash} of semantics {SEMANTICS_VERSION}",
                "Define the set anew and train on it, or run the package version that made it.",
            )
        return definition


def _checked_in_order(
    specs: Iterable[FeatureSpec], types: Mapping[str, str], earlier: dict[str, FeatureSpec]
) -> Iterator[FeatureSpec]:
    """The specs, each of which may be about one before it."""
    for given in specs:
        spec = checked_spec(given, types, earlier)
        for name in names_of(spec):
            earlier.setdefault(name, spec)
        yield spec


def _set(definition: FeatureSetDefinition, name: str, value: object) -> None:
    object.__setattr__(definition, name, value)


def _declared(parts: Any) -> Declared:
    if not isinstance(parts, dict) or set(parts) != set(Declared._fields):
        raise BadInput(f"feature set: {shown(parts)} is no event column")
    if not all(isinstance(value, str) for value in parts.values()):
        raise BadInput(f"feature set: {shown(parts)} is no event column")
    return Declared(**parts)


def _columns(specs: Iterable[FeatureSpec]) -> Iterable[FeatureDefinition]:
    position = 0
    for spec in specs:
        for part, (name, (detail, bucket)) in enumerate(zip(names_of(spec), parts_of(spec), strict=True)):
            yield FeatureDefinition(position, name, spec, part, detail, bucket)
            position += 1


def _chain(specs: Iterable[FeatureSpec], declared: Sequence[Declared]) -> str:
    """A declared column's meaning is part of what its features are."""
    by_name = {column.name: column for column in declared}
    digest = hashlib.sha256(f"ubp_sql features, semantics {SEMANTICS_VERSION}".encode()).hexdigest()
    for spec in specs:
        read = [list(by_name[name]) for name in columns_of(spec) if name in by_name]
        digest = hashlib.sha256(f"{digest} {spec.canonical()} {json.dumps(read)}".encode()).hexdigest()
    return digest


def _checked_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(kinds, tuple | list) or not 1 <= len(kinds) <= MAX_KINDS:
        raise BadInput(f"a feature set needs 1 to {MAX_KINDS} event kinds, got {shown(kinds)}")
    by_slug: dict[str, str] = {}
    for kind in kinds:
        text = slug(kind)
        if by_slug.setdefault(text, kind) != kind:
            raise BadInput(f"event kinds {by_slug[text]!r} and {kind!r} have the same column name {text}")
    if len(by_slug) < len(kinds):
        raise BadInput(f"an event kind comes twice in {shown(kinds)}")
    return tuple(kinds)


def _checked_windows(windows_days: Sequence[int]) -> tuple[int, ...]:
    if not windows_days or len(windows_days) >= MAX_WINDOWS:
        raise BadInput(f"a feature set needs 1 to {MAX_WINDOWS - 1} windows, got {len(windows_days)}")
    for days in windows_days:
        if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MAX_DAYS:
            raise BadInput(f"window of {days!r:.40} days: wants a whole number from 1 to {MAX_DAYS}")
    if len(set(windows_days)) < len(windows_days):
        raise BadInput(f"a window comes twice in {windows_days}")
    return tuple(sorted(windows_days))
