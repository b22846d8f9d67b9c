"""The preparation of a model's features as a document: what training learnt, by the names of the columns.

    {"ubp_preparation": 1,
     "features": ["mean_value_view_7d", "mean_value_view_30d", "last_kind"],
     "steps": [
       {"step": "indicator", "columns": ["mean_value_view_7d"]},
       {"step": "interpolate", "columns": ["mean_value_view_7d", "mean_value_view_30d"], "widths": [7, 30]},
       {"step": "impute", "columns": ["mean_value_view_7d", "mean_value_view_30d"], "values": [3.5, 3.25]},
       {"step": "clip", "columns": ["mean_value_view_7d"], "low": [0], "high": [120]},
       {"step": "log1p", "columns": ["mean_value_view_7d"]},
       {"step": "standardise", "columns": ["mean_value_view_7d"], "mean": [1.2], "scale": [0.4]},
       {"step": "one_hot", "columns": ["last_kind"], "values": [1, 2, 5]},
       {"step": "pca", "columns": ["a", "b"], "mean": [0, 0], "components": [[0.6, 0.8]], "name": "pca"}]}

Steps are done in their order. `indicator` adds x_missing; `one_hot` puts x=1, x=2, x=5, x=other and x=missing in the
place of x; `pca` puts pca_1, ... in the place of its columns. A clip may have a low or a high alone. What each does to
the bit: preparation.py.

A file of a model with its preparation is a line `ubp-prepared-model 1 N`, N bytes of this document, the model's file.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from itertools import pairwise
from typing import NamedTuple

from ubp_sql.errors import InvalidModel, UnsupportedModel
from ubp_sql.models import preparation
from ubp_sql.models.document import Table
from ubp_sql.models.forest import places_of
from ubp_sql.models.json_text import read_json
from ubp_sql.models.limits import MAX_FEATURES, MAX_TEXT_BYTES, MAX_WEIGHTS
from ubp_sql.models.preparation import MAX_STEPS, Program, Step, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERSION = 1
KEY = "ubp_preparation"
BEGIN = b"ubp-prepared-model "
MAX_CATEGORIES = 1_000  # of a column
MAX_NAME = 200
_FIRST_LINE = re.compile(rb"ubp-prepared-model (\d{1,4}) (\d{1,8})\n")
_HINT = "`ubp-sql train --prepare` writes it; docs/preparation.md describes it"


class Preparation(NamedTuple):
    """A document that was read: steps over features of these names, and the names of what comes out of them.

    text  the document again, as strict JSON
    """

    features: tuple[str, ...]
    outputs: tuple[str, ...]
    program: Program
    text: str

    def placed(self, names: tuple[str, ...]) -> Program:
        """Its program for rows whose features have these names in this order.

        Raises ValueError, with a line that names one, where the two differ in more than their order.
        """
        return self.program.placed(places_of(self.features, names))


def read_preparation(data: bytes) -> Preparation:
    """The preparation in a document, all of it checked.

    Raises InvalidModel (UB006), which names the place, and UnsupportedModel (UB007) for another version.
    """
    if len(data) > MAX_TEXT_BYTES:
        raise InvalidModel(f"the preparation has {len(data)} bytes, at most {MAX_TEXT_BYTES} are read")
    try:
        document = Table(read_json(data), "preparation")
        version = document.integer(KEY, 0, 9_999)
        if version != VERSION:
            raise UnsupportedModel(f"the preparation has version {version}, known is {VERSION}", "upgrade the package")
        _only(document, KEY, "features", "steps")
        return _Reader(document).made()
    except InvalidModel as error:
        error.hint = error.hint or _HINT
        raise


def split(data: bytes) -> tuple[bytes, bytes]:
    """The document and the model's file in the bytes of a model with its preparation. Raises InvalidModel (UB006)."""
    found = _FIRST_LINE.match(data)
    if found is None:
        raise InvalidModel("preparation: the first line is not `ubp-prepared-model 1 N`")
    if int(found[1]) != 1:
        raise UnsupportedModel(f"the preparation has version {int(found[1])}, known is 1", "upgrade the package")
    end = found.end() + int(found[2])
    if end >= len(data):
        raise InvalidModel(f"preparation: the file ends within its document or behind it, at byte {len(data)}")
    return data[found.end() : end], data[end:]


def together(document: bytes, model: bytes) -> bytes:
    """A model's file behind the document of its preparation, as one file."""
    return b"%s1 %d\n%s%s" % (BEGIN, len(document), document, model)


def category_name(value: float) -> str:
    """A value of a code as it stands behind `=` in a column's name."""
    return str(int(value)) if value.is_integer() else repr(value)


def _only(table: Table, *keys: str) -> None:
    unknown = sorted(set(table.found) - set(keys))
    if unknown:
        raise InvalidModel(f"{table.where}: there is no field {_shown(unknown[0])} here")


def _shown(name: str) -> str:
    return ascii(name[:60])


class _Reader:
    """Reads a document step by step, keeping which column each name stands for."""

    def __init__(self, document: Table) -> None:
        self.text = json.dumps(document.found, default=list, ensure_ascii=False)
        features = _texts(document, "features", MAX_FEATURES)
        self.places = dict(zip(features, range(len(features)), strict=True))
        self.features = tuple(features)
        self.columns = len(features)
        self.steps: list[Step] = []
        self.numbers = 0
        self.done: set[tuple[str, str]] = set()
        found = document.items("steps")
        if not 0 < len(found) <= MAX_STEPS:
            raise InvalidModel(f"{document.place('steps')}: {len(found)} steps, expected 1 to {MAX_STEPS}")
        for k, content in enumerate(found):
            self._step(Table(content, f"{document.place('steps')}[{k}]"))

    def made(self) -> Preparation:
        program = Program(len(self.features), self.steps, list(self.places.values()))
        return Preparation(self.features, tuple(self.places), program, self.text)

    def _step(self, table: Table) -> None:
        kind = table.text("step")
        if kind not in _KINDS:
            raise InvalidModel(
                f"{table.place('step')}: {_shown(kind)} is no step", f"known are {', '.join(sorted(_KINDS))}"
            )
        names = _texts(table, "columns", MAX_FEATURES)
        for name in names:
            if name not in self.places:
                raise InvalidModel(f"{table.place('columns')}: there is no column {_shown(name)} at this step")
            if (kind, name) in self.done:
                raise InvalidModel(f"{table.place('columns')}: {_shown(name)} was in a step {kind} before")
            self.done.add((kind, name))
        made = _KINDS[kind](self, table, names)
        self.numbers += len(made.numbers)
        if self.numbers > MAX_WEIGHTS:
            raise InvalidModel(f"{table.where}: more than {MAX_WEIGHTS} numbers in all")
        self.steps.append(made)
        self.columns += made.added

    def at(self, names: Sequence[str]) -> list[int]:
        return [self.places[name] for name in names]

    def add(self, table: Table, names: Sequence[str]) -> None:
        """Names for the columns that the step adds."""
        if len(self.places) + len(names) > MAX_FEATURES:
            raise InvalidModel(f"{table.where}: more than {MAX_FEATURES} columns")
        for k, name in enumerate(names):
            if name in self.places:
                raise InvalidModel(f"{table.where}: it would make a second column {_shown(name)}")
            self.places[name] = self.columns + k


def _texts(table: Table, key: str, most: int) -> list[str]:
    """A list of different names. Raises InvalidModel (UB006)."""
    found = table.items(key)
    if not 0 < len(found) <= most:
        raise InvalidModel(f"{table.place(key)}: {len(found)} names, expected 1 to {most}")
    met: set[str] = set()
    for name in found:
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
            raise InvalidModel(f"{table.place(key)}: expected printable texts of 1 to {MAX_NAME} characters")
        if name in met:
            raise InvalidModel(f"{table.place(key)}: {_shown(name)} comes twice")
        met.add(name)
    return found


def _numbers(table: Table, key: str, count: int | None) -> array[float]:
    """A list of finite numbers."""
    return _finite(table, key, table.numbers(key, count))


def _finite(table: Table, key: str, found: array[float]) -> array[float]:
    if not all(map(math.isfinite, found)):
        raise InvalidModel(f"{table.place(key)}: {next(x for x in found if not math.isfinite(x))!r} is not finite")
    return found


def _indicator(reader: _Reader, table: Table, names: list[str]) -> Step:
    _only(table, "step", "columns")
    made = step(preparation.MISSING, reader.at(names))
    reader.add(table, [f"{name}_missing" for name in names])
    return made


def _interpolate(reader: _Reader, table: Table, names: list[str]) -> Step:
    _only(table, "step", "columns", "widths")
    widths = _numbers(table, "widths", len(names))
    if len(names) < 2 or widths[0] <= 0 or any(a >= b for a, b in pairwise(widths)):
        raise InvalidModel(f"{table.place('widths')}: expected two or more, above 0 and ascending")
    return step(preparation.INTERPOLATE, reader.at(names), widths)


def _impute(reader: _Reader, table: Table, names: list[str]) -> Step:
    _only(table, "step", "columns", "values")
    return step(preparation.FILL, reader.at(names), _numbers(table, "values", len(names)))


def _clip(reader: _Reader, table: Table, names: list[str]) -> Step:
    _only(table, "step", "columns", "low", "high")
    n = len(names)
    if "low" not in table.found and "high" not in table.found:
        raise InvalidModel(f"{table.where}: a clip has a low, a high, or both")
    low = _numbers(table, "low", n) if "low" in table.found else array("d", [-math.inf]) * n
    high = _numbers(table, "high", n) if "high" in table.found else array("d", [math.inf]) * n
    if wrong := [name for name, a, b in zip(names, low, high, strict=True) if a > b]:
        raise InvalidModel(f"{table.place('low')}: of {_shown(wrong[0])} it is above its high")
    return step(preparation.CLIP, reader.at(names), low, high)


def _log1p(reader: _Reader, table: Table, names: list[str]) -> Step:
    _only(table, "step", "columns")
    return step(preparation.LOG1P, reader.at(names))


def _standardise(reader: _Reader, table: Table, names: list[str]) -> Step:
    _only(table, "step", "columns", "mean", "scale")
    mean, scale = (_numbers(table, key, len(names)) for key in ("mean", "scale"))
    if min(scale) <= 0:
        raise InvalidModel(f"{table.place('scale')}: {min(scale)!r} is not above 0")
    return step(preparation.SCALE, reader.at(names), mean, scale)


def _one_hot(reader: _Reader, table: Table, names: list[str]) -> Step:
    _only(table, "step", "columns", "values")
    values = _numbers(table, "values", None)
    if len(names) != 1:
        raise InvalidModel(f"{table.place('columns')}: {len(names)} columns, a one_hot has one")
    if not 0 < len(values) <= MAX_CATEGORIES:
        raise InvalidModel(f"{table.place('values')}: {len(values)} values, expected 1 to {MAX_CATEGORIES}")
    if any(a >= b for a, b in pairwise(values)):
        raise InvalidModel(f"{table.place('values')}: they do not ascend")
    made = step(preparation.ONE_HOT, reader.at(names), values)
    (name,) = names
    del reader.places[name]
    reader.add(table, [f"{name}={what}" for what in (*map(category_name, values), "other", "missing")])
    return made


def _pca(reader: _Reader, table: Table, names: list[str]) -> Step:
    _only(table, "step", "columns", "mean", "components", "name")
    n, prefix = len(names), table.text("name", "pca")
    if not 0 < len(prefix) <= MAX_NAME - 10 or not prefix.isprintable():
        raise InvalidModel(f"{table.place('name')}: expected a text of 1 to {MAX_NAME - 10} characters")
    mean, rows = _numbers(table, "mean", n), table.items("components")
    if not 0 < len(rows) <= n:
        raise InvalidModel(f"{table.place('components')}: {len(rows)} components of {n} columns")
    if n * len(rows) > MAX_WEIGHTS:
        raise InvalidModel(f"{table.place('components')}: more than {MAX_WEIGHTS} numbers")
    weights = [_finite(table, "components", row) for row in table.rows("components", n)]
    made = step(preparation.DOT, reader.at(names), mean, *weights)
    for name in names:
        del reader.places[name]
    reader.add(table, [f"{prefix}_{k + 1}" for k in range(len(rows))])
    return made


_KINDS: dict[str, Callable[[_Reader, Table, list[str]], Step]] = {
    "indicator": _indicator,
    "interpolate": _interpolate,
    "impute": _impute,
    "clip": _clip,
    "log1p": _log1p,
    "standardise": _standardise,
    "one_hot": _one_hot,
    "pca": _pca,
}
