"""Stored features at the set's moment: those that age with time alone are finished from the row's anchors.

A row is rewritten only when its user's events change or cross a window's edge, so its own as_of may be older than the
set's. The arithmetic is that of kernels/_cpu_formulas.py, operation by operation, so that the bits are those of a row
computed at the set's moment; a test compares them. No NumPy: one user is scored without it.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Callable, Sequence

from ubp_sql.api.session import Row, single

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# As kernels/codes.py has them, whose import costs a connection's first call 4 ms; a test keeps them equal.
AGE, AGE_RATIO, DECAY, WEEKDAY = AGEING = (2, 3, 4, 5)
CODE, CELL_A, CELL_B = 0, 1, 2
ANCHOR_EPOCH_US = 4_102_444_800_000_000

F32_MAX = 3.4028234663852886e38
_FLOAT = struct.Struct("f")

# Of a row `r` of ubp.feature_rows and its set `s`: the bytes behind an array's head, and anchors only where there is
# something to finish. A list of numbers would cost 50 ns a feature, ubp.array_image 4 µs.
ROW = (
    "substr(ubp.array_bytes(r.features, -1, true), 21) as packed,"
    " case when r.as_of <> s.as_of then r.anchors end as anchors, s.as_of_us, s.as_of_weekday"
)

STORED = f"""
select {ROW}
  from ubp.feature_sets s
  join ubp.feature_rows r on r.feature_set_id = s.feature_set_id and r.user_id = $2
 where s.feature_set_id = $1"""  # noqa: S608 - constants only

Value = Callable[[Sequence[float], float, int], float]
"""(anchors, microseconds since ANCHOR_EPOCH, weekday) to the value."""


class Ageing:
    """The ageing formulas of a feature set.

    formulas  rows of Plan.formulas
    factors   rows of Plan.factors
    anchors   Plan.anchors: the cells whose values a row's anchors are, ascending
    """

    def __init__(self, formulas: Any, factors: Any, anchors: Any) -> None:
        place = {int(cell): k for k, cell in enumerate(anchors)}
        self._held = len(place)
        self._steps: list[tuple[int, Value]] = []
        for f, row in enumerate(formulas):
            if row[CODE] in AGEING:
                made = _step(row, factors[f], place)
                self._steps.append((4 * f, made))

    def finish(self, features: bytes, anchors: Sequence[float], as_of_us: int, weekday: int) -> bytes:
        """The features at another moment.

        features  float32, machine order
        anchors   as they were computed with the features
        as_of_us  the moment, microseconds since 1970; its local weekday, Monday 0
        """
        if len(anchors) != self._held:  # of a row from before the set grew
            return features
        now = float(as_of_us - ANCHOR_EPOCH_US)
        row = bytearray(features)
        for offset, value in self._steps:
            x = value(anchors, now, weekday)
            if x != x:
                x = math.nan
            elif x > F32_MAX:
                x = F32_MAX
            elif x < -F32_MAX:
                x = -F32_MAX
            _FLOAT.pack_into(row, offset, x)
        return bytes(row)


def _step(row: Any, factors: Any, place: dict[int, int]) -> Value:
    """One formula."""
    code, cell_a, cell_b = (int(row[c]) for c in (CODE, CELL_A, CELL_B))
    f0, f1 = (float(factor) for factor in factors)
    a, b = place[cell_a], place.get(cell_b, 0)
    if code == AGE:
        return lambda anchors, now, _: (now - anchors[a]) / f1
    if code == AGE_RATIO:
        return lambda anchors, now, _: (now - anchors[a]) / anchors[b] if anchors[b] else math.nan
    if code == DECAY:
        return lambda anchors, now, _: (
            anchors[a] * f1 ** (-(now - anchors[b]) / f0) if anchors[b] == anchors[b] else 0.0
        )
    days = [place[cell_a + day] for day in range(7)]
    return lambda anchors, _, weekday: anchors[days[weekday]] / anchors[b] if anchors[b] else math.nan


def at_as_of(ageing: Ageing, row: Row) -> bytes:
    """Features of a row with the columns ROW, float32 in machine order, at the set's as_of."""
    packed, anchors = row["packed"], row["anchors"]
    return packed if anchors is None else ageing.finish(packed, anchors, row["as_of_us"], row["as_of_weekday"])


def stored_features(plpy: Any, memory: dict[str, Any], feature_set_id: int, user_id: int) -> tuple[float, ...] | None:
    """The user's stored row at the set's as_of, NaN where there is no value; None for a user without one."""
    row = single(plpy, memory, STORED, ["integer", "bigint"], [feature_set_id, user_id])
    return None if row is None else tuple(array("f", at_as_of(ageing_of(plpy, memory, feature_set_id), row)))


PLAN = "select plan, hash from ubp.feature_sets where feature_set_id = $1"
# Where a plan's bytes (kernels/plan_blob.py) tell offset, rows and columns of an array, and the arrays read here.
TABLE, ENTRY, FORMULAS, FACTORS, ANCHORS = 16, 24, 7, 8, 9


def ageing_of(plpy: Any, memory: dict[str, Any], feature_set_id: int) -> Ageing:
    """The ageing formulas of a set, kept in the function's SD until the set grows."""
    row = single(plpy, memory, PLAN, ["integer"], [feature_set_id])
    assert row is not None  # noqa: S101 - a deployment or a stored row speaks of it
    key = f"ageing {feature_set_id}"
    kept: tuple[str, Ageing] | None = memory.get(key)
    if kept is None or kept[0] != row["hash"]:
        kept = memory[key] = (
            row["hash"],
            _of_blob(row["plan"]) if row["plan"] else _compiled(plpy, memory, feature_set_id),
        )
    return kept[1]


def _of_blob(blob: bytes) -> Ageing:
    """From a stored plan; plan_blob.py needs NumPy."""

    def array_at(number: int, item: str) -> Any:
        offset, rows, columns = struct.unpack_from("<3q", blob, TABLE + ENTRY * number)
        values = struct.unpack_from(f"<{rows * max(columns, 1)}{item}", blob, offset)
        return [values[k : k + columns] for k in range(0, len(values), columns)] if columns else values

    return Ageing(array_at(FORMULAS, "q"), array_at(FACTORS, "d"), array_at(ANCHORS, "q"))


def _compiled(plpy: Any, memory: dict[str, Any], feature_set_id: int) -> Ageing:
    """From the definition, which loads NumPy: a set whose plan is not stored."""
    from ubp_sql.api.moments import feature_set

    plan = feature_set(plpy, memory, feature_set_id).definition.plan
    return Ageing(plan.formulas.tolist(), plan.factors.tolist(), plan.anchors.tolist())
