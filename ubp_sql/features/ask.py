"""What a rule asks the plan builder for, said in the words of a spec: its events, its column, its window."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ubp_sql.features.columns import CLOCK, CLOCK_SIZE, Columns
from ubp_sql.features.hashing import text_key
from ubp_sql.features.spec import Condition, FeatureSpec
from ubp_sql.features.windows import Window
from ubp_sql.kernels.codes import Formula, Key, Op

if TYPE_CHECKING:
    from ubp_sql.kernels.plan_build import Cell, PlanBuilder, Where

_OF_NUMBER = {Op.SUM, Op.EXTREMA, Op.SPREAD, Op.FIRST, Op.LAST, Op.DECAY}
_OF_KEY = {Op.DISTINCT, Op.KEYS, Op.TOPK, Op.WORDS, Op.GAPS, Op.LAST_KEY}
_OWN = "the column of the spec"


class Ask:
    """One column of one spec, on its way into a plan.

    values  the settings, widths in microseconds, with defaults where they are not None
    bucket  of a tumbling window, 0 the newest
    places  name to position of the columns before the spec
    """

    def __init__(
        self,
        builder: "PlanBuilder",
        kinds: Sequence[str],
        columns: Columns,
        spec: FeatureSpec,
        values: dict[str, Any],
        bucket: int = 0,
        places: Mapping[str, int] | None = None,
    ) -> None:
        self.builder, self.kinds, self.columns = builder, kinds, columns
        self.places = places or {}
        self.spec, self.values, self.bucket = spec, values, bucket
        self.of = spec.of

    def add(
        self, code: Formula, *cells: "Cell", f0: float = 1.0, f1: float = 1.0, size: int = 1, mask: int = 0
    ) -> None:
        """One more feature of the set."""
        self.builder.formula(code, *cells, f0=f0, f1=f1, size=size, mask=mask)

    def again(self) -> None:
        """The feature that `of` names, once more."""
        self.builder.again(self.places[self.of or ""])

    def cell(
        self,
        op: Op,
        j: int = 0,
        *,
        of: str | None = _OWN,
        kinds: Sequence[str] | None = None,
        where: bool = True,
        window: int | None = None,
        size: int = 1,
        p0: float = 0.0,
        last: int | None = None,
        condition: "Where | None" = None,
        steps: Sequence[str] = (),
        until: Sequence[str] = (),
    ) -> "Cell":
        """Cell j of an operation over the spec's events in its window, but for what is said otherwise."""
        from ubp_sql.kernels.plan_build import OpSpec

        column = self.of if of is _OWN else of
        time = self.spec.window
        last = time.last if last is None else last
        width = time.width_us if window is None else window
        spec = OpSpec(
            op,
            tuple(map(self.kinds.index, self.spec.kinds if kinds is None else kinds)),
            number=self.columns.numbers.index(column) if column and op in _OF_NUMBER else -1,
            key=self.key(column) if column and op in _OF_KEY else Key.NONE,
            where=condition or self._where(where),
            size=size,
            steps=tuple(map(self.kinds.index, steps)),
            p0=p0,
            # The newest values of two windows are two operations: each has one ring only.
            p1=float(width) if op == Op.LAST and not last else 0.0,
            last_n=last,
            buckets=time.buckets,
            bucket_us=width if time.buckets else 0,
            until=tuple(map(self.kinds.index, until)),
        )
        return self.builder.cell(spec, self.bucket if time.buckets else width, j)

    def key(self, column: str) -> int:
        """A key column's row, or what is read off the clock."""
        return CLOCK[column] if column in CLOCK else self.columns.keys.index(column)

    def _where(self, wanted: bool) -> "Where":
        from ubp_sql.kernels.plan_build import ANY, Where

        where = ANY
        for condition in self.spec.where if wanted else ():
            if condition.column in self.columns.numbers:
                low, high = number_range(condition)
                where = where._replace(number=self.columns.numbers.index(condition.column), low=low, high=high)
            else:
                key = self.key(condition.column)
                where = where._replace(key=key, equals=key_code(condition))
        return Where(*where)

    def measure(self, *, window: int | None = None, kinds: Sequence[str] | None = None, where: bool = True) -> "Cell":
        """How much: events, the sum of a number, or different keys."""
        if self.of is None:
            return self.cell(Op.COUNT, window=window, kinds=kinds, where=where)
        if self.of in self.columns.numbers:
            return self.cell(Op.SUM, 1, window=window, kinds=kinds, where=where)
        return self.cell(Op.DISTINCT, window=window, kinds=kinds, where=where)

    def far_window(self) -> int:
        """Width of the longer window that the spec is held against."""
        assert isinstance(self.spec.against, Window)  # noqa: S101 - compile.checked_spec has seen to it
        return self.spec.against.width_us

    def far_kinds(self) -> Sequence[str]:
        return self.spec.kinds if self.spec.against is None else tuple(self.spec.against)  # type: ignore[arg-type]

    def band(self, low: float | None, high: float | None) -> "Cell":
        """Events whose number lies in [low, high)."""
        from ubp_sql.kernels.plan_build import Where

        low, high = number_range(Condition("", low, high))
        return self.cell(Op.COUNT, condition=Where(self.columns.numbers.index(self.of or ""), low, high))

    def hist(self, key: Key | None = None) -> "Cell":
        """The first of the counts by hour, weekday, month or holiday."""
        from ubp_sql.kernels.plan_build import OpSpec

        cell = self.cell(Op.COUNT, of=None)
        key = CLOCK[self.of or ""] if key is None else key
        size = next(CLOCK_SIZE[name] for name, code in CLOCK.items() if code == key)
        base = cell.spec
        spec = OpSpec(
            Op.HIST,
            base.kinds,
            key=key,
            where=base.where,
            size=size,
            last_n=base.last_n,
            buckets=base.buckets,
            bucket_us=base.bucket_us,
        )
        return self.builder.cell(spec, cell.window)

    def funnel(self, j: int) -> "Cell":
        """0: the deepest step; d: starts that reach step d."""
        steps = self.values["steps"]
        return self.cell(Op.FUNNEL, j, of=None, kinds=steps[:1], steps=steps, p0=float(self.values["bound"]))

    def dwell(self, j: int) -> "Cell":
        """0: events that are followed in time; 1: their time, us."""
        until = self.values.get("until") or self.spec.kinds
        return self.cell(Op.DWELL, j, of=None, until=until, p0=float(self.values["timeout"]))


def number_range(condition: Condition) -> tuple[float, float]:
    """[low, high) of a condition on a number."""
    if condition.equals is not None:
        low = float(condition.equals)
        return low, math.nextafter(low, math.inf)
    return (
        -math.inf if condition.low is None else condition.low,
        math.inf if condition.high is None else condition.high,
    )


def key_code(condition: Condition) -> int:
    """The number that a key must equal: an item's, an hour's, or the hash of a text."""
    equals = condition.equals
    if isinstance(equals, str):
        return text_key(equals)
    return int(equals or 0) - (1 if condition.column in ("weekday", "month") else 0)
