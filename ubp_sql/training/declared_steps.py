"""What is to be done to the features before a model, as a user declares it: a list of steps, in YAML or JSON.

    prepare:
      - {step: indicator, columns: "mean_*"}
      - {step: impute, with: interpolate}
      - {step: impute, columns: days_since_purchase, with: 9999}
      - {step: impute, with: median}
      - {step: clip, quantiles: [0.001, 0.999]}
      - {step: log1p, columns: ["*", "!*_missing"]}
      - {step: standardise}

Also one_hot (columns, most), pca (columns, components or share, name), clip with low, high or both: docs/preparation.md
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from ubp_sql.errors import FeatureSetMismatch, InvalidModel
from ubp_sql.models.preparation_document import MAX_CATEGORIES
from ubp_sql.sources.plain_yaml import ERRORS, PlainLoader, problem_of

MOST_BYTES = 2 << 20
MOST_STEPS = 100
HINT = "docs/preparation.md has examples"
_OWN = {
    "indicator": set[str](),
    "impute": {"with"},
    "clip": {"low", "high", "quantiles"},
    "log1p": set[str](),
    "standardise": set[str](),
    "one_hot": {"most"},
    "pca": {"components", "share", "name"},
}
DEFAULT: list[dict[str, Any]] = [
    {"step": "indicator"},
    {"step": "impute", "with": "median"},
    {"step": "log1p", "columns": ["*", "!*_missing"]},
    {"step": "standardise"},
]
"""For a linear model without a declaration: counts and sums have long tails, and what is missing says something."""


@dataclass(frozen=True)
class Declared:
    """One step.

    where     its place in the file, for messages
    kind      its name
    patterns  names and patterns of columns; those after `!` are left out
    options   its other fields, checked
    """

    where: str
    kind: str
    patterns: tuple[str, ...]
    options: dict[str, Any]

    @property
    def done_as(self) -> str:
        """What it counts as where a pattern takes what no step of its kind took before."""
        return "interpolate" if self.options.get("with") == "interpolate" else self.kind

    def chosen(self, names: list[str], done: set[str]) -> list[str]:
        """The columns it means, in their order; a pattern leaves out those that a step of its kind took before.

        Raises FeatureSetMismatch (UB002) where there is no such column.
        """
        found: set[str] = set()
        wanted = [p for p in self.patterns if not p.startswith("!")]
        for pattern in wanted:
            matched = {name for name in names if fnmatchcase(name, pattern)} if _is_wide(pattern) else {pattern}
            if not matched or not matched <= set(names):
                raise FeatureSetMismatch(
                    f"{self.where}: there is no column {pattern[:60]!a} at this step",
                    f"the columns are {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}",
                )
            found |= matched - done if _is_wide(pattern) else matched
        for pattern in set(self.patterns) - set(wanted):
            found -= {name for name in found if fnmatchcase(name, pattern[1:])}
        return [name for name in names if name in found]


def _is_wide(pattern: str) -> bool:
    return any(mark in pattern for mark in "*?[")


class _Loader(PlainLoader):
    """Plain values, no field twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [getattr(key, "value", None) for key, _ in node.value]
        if twice := [key for k, key in enumerate(keys) if key in keys[:k]]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_declared(path: Path) -> list[Declared]:
    """The steps in a file. Raises InvalidModel (UB006), which names the place."""
    if path.stat().st_size > MOST_BYTES:
        raise InvalidModel(f"{path} has more than {MOST_BYTES:,} bytes", HINT)
    return parse_declared(path.read_bytes(), path.name)


def parse_declared(data: bytes, file: str = "prepare") -> list[Declared]:
    """As read_declared, from bytes."""
    try:
        content = yaml.load(data.decode("utf-8-sig"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except ERRORS as error:
        line, problem = problem_of(error)
        raise InvalidModel(f"{file}: {f'line {line}: ' if line else ''}not YAML: {problem}", HINT) from None
    if isinstance(content, dict):
        if list(content) != ["prepare"]:
            raise InvalidModel(f"{file}: expected one field, prepare, with a list of steps", HINT)
        content = content["prepare"]
    return declared(content, file)


def declared(content: Any, file: str = "prepare") -> list[Declared]:
    """The steps of a list of tables. Raises InvalidModel (UB006), which names the place."""
    if not isinstance(content, list) or not 0 < len(content) <= MOST_STEPS:
        raise InvalidModel(f"{file}: expected a list of 1 to {MOST_STEPS} steps", HINT)
    return [_one(entry, f"{file}: step {k + 1}") for k, entry in enumerate(content)]


def _one(entry: Any, where: str) -> Declared:
    if not isinstance(entry, dict) or not isinstance(entry.get("step"), str):
        raise InvalidModel(f"{where}: expected a table with a field step", HINT)
    kind = entry["step"]
    if kind not in _OWN:
        raise InvalidModel(f"{where}: {kind[:60]!a} is no step", f"known are {', '.join(_OWN)}")
    options = {key: value for key, value in entry.items() if key not in ("step", "columns")}
    if unknown := [key for key in options if key not in _OWN[kind]]:
        known = ", ".join(["columns", *sorted(_OWN[kind])])
        raise InvalidModel(f"{where}: {kind} has no field {str(unknown[0])[:60]!a}", f"it has {known}")
    columns = entry.get("columns", "*")
    patterns = (columns,) if isinstance(columns, str) else tuple(columns) if isinstance(columns, list) else ()
    if not patterns or not all(isinstance(p, str) and p for p in patterns):
        raise InvalidModel(f"{where}: columns: expected a name, a pattern, or a list of them", HINT)
    if len(set(patterns)) < len(patterns):
        raise InvalidModel(f"{where}: columns: a name comes twice")
    _check_options(where, kind, options)
    return Declared(where, kind, patterns, options)


def _check_options(where: str, kind: str, options: dict[str, Any]) -> None:
    if kind == "impute":
        value = options.get("with")
        if value not in ("mean", "median", "interpolate") and not is_number(value):
            raise InvalidModel(f"{where}: with: expected mean, median, interpolate or a number", HINT)
    if kind == "clip":
        bounds, quantiles = [options[key] for key in ("low", "high") if key in options], options.get("quantiles")
        if bool(bounds) == bool(quantiles) or not all(map(is_number, bounds)) or bounds != sorted(bounds):
            raise InvalidModel(f"{where}: expected low, high or both, ascending, or quantiles: [0.01, 0.99]", HINT)
        if quantiles and not _are_quantiles(quantiles):
            raise InvalidModel(f"{where}: quantiles: expected two numbers from 0 to 1, ascending", HINT)
    if kind == "one_hot" and not _is_count(options.get("most", 1), MAX_CATEGORIES):
        raise InvalidModel(f"{where}: most: expected a whole number from 1 to {MAX_CATEGORIES}", HINT)
    if kind == "pca":
        count, share = options.get("components"), options.get("share")
        if (count is None) == (share is None) or not (count is None or _is_count(count, 10_000)):
            raise InvalidModel(f"{where}: expected components, a whole number, or share", HINT)
        if share is not None and not (is_number(share) and 0 < share < 1):
            raise InvalidModel(f"{where}: share: expected a number between 0 and 1", HINT)
        if not isinstance(options.get("name", "pca"), str):
            raise InvalidModel(f"{where}: name: expected a text", HINT)


def is_number(value: Any) -> bool:
    """Whether it is a finite number (True is none)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1.7976931348623157e308


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _are_quantiles(value: Any) -> bool:
    pair = isinstance(value, list) and len(value) == 2 and all(map(is_number, value))
    return pair and 0 <= value[0] < value[1] <= 1
