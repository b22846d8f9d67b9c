"""From cells to features, at the moment of a computation or, for what ages without events, at any later one."""

from math import log

import numpy as np

from ubp_sql.kernels._cpu_jit import jit, op
from ubp_sql.kernels.dispatch import ANCHOR_EPOCH_US, F32, F64, I64, Formula, FormulaColumn, Plan

CODE, A, B, C, SIZE, MASK = (
    int(FormulaColumn.CODE),
    int(FormulaColumn.A),
    int(FormulaColumn.B),
    int(FormulaColumn.C),
    int(FormulaColumn.SIZE),
    int(FormulaColumn.MASK),
)
VALUE, RATIO, AGE, AGE_RATIO, DECAY = (
    int(Formula.VALUE),
    int(Formula.RATIO),
    int(Formula.AGE),
    int(Formula.AGE_RATIO),
    int(Formula.DECAY),
)
WEEKDAY, WAVE_SIN, WAVE_COS, SUBSET = (
    int(Formula.WEEKDAY),
    int(Formula.WAVE_SIN),
    int(Formula.WAVE_COS),
    int(Formula.SUBSET),
)
ENTROPY, HIST_ENTROPY, DIFFERENCE, INDEX_MAX = (
    int(Formula.ENTROPY),
    int(Formula.HIST_ENTROPY),
    int(Formula.DIFFERENCE),
    int(Formula.INDEX_MAX),
)
F32_MAX = float(np.finfo(np.float32).max)


@op
def divide(over: float, under: float) -> float:
    return over / under if under != 0.0 else np.nan


@op
def weighted(plan: Plan, f: int, cells: F64) -> float:
    """Sum of the SIZE cells from A, each times its wave, or those whose bit is in the mask."""
    a, mask, total = plan.formulas[f, A], plan.formulas[f, MASK], 0.0
    subset = plan.formulas[f, CODE] == SUBSET
    for j in range(plan.formulas[f, SIZE]):
        if not subset:
            total += cells[a + j] * plan.waves[mask + j]
        elif (mask >> j) & 1:
            total += cells[a + j]
    return total


@op
def hist_entropy(plan: Plan, f: int, cells: F64) -> float:
    """Entropy in nats of the SIZE counts from A; NaN when all are 0."""
    a, n, total = plan.formulas[f, A], 0.0, 0.0
    for j in range(plan.formulas[f, SIZE]):
        x = cells[a + j]
        n += x
        total += x * log(x) if x > 0.0 else 0.0
    return max(log(n) - total / n, 0.0) if n > 0.0 else np.nan


@op
def greatest(plan: Plan, f: int, cells: F64) -> float:
    """Which of the SIZE cells from A is greatest, the first of equals; NaN when none is above 0."""
    a, best, most = plan.formulas[f, A], np.nan, 0.0
    for j in range(plan.formulas[f, SIZE]):
        if cells[a + j] > most:
            best, most = float(j), cells[a + j]
    return best


@op
def feature(plan: Plan, f: int, cells: F64, as_of_us: int, weekday: int) -> np.float32:
    """Formula f, rounded once to float32 and held within its finite range; NaN = no value."""
    formulas, factors = plan.formulas, plan.factors
    code, a, b, c = formulas[f, CODE], formulas[f, A], formulas[f, B], formulas[f, C]
    now = float(as_of_us - ANCHOR_EPOCH_US)
    x = np.nan
    if code == VALUE:
        x = divide(cells[a] * factors[f, 0], factors[f, 1])
    elif code == RATIO:
        if c < 0 or cells[c] != 0.0:
            x = divide(cells[a] * factors[f, 0], cells[b] * factors[f, 1])
    elif code == AGE:
        x = divide(now - cells[a], factors[f, 1])
    elif code == AGE_RATIO:
        x = divide(now - cells[a], cells[b])
    elif code == DECAY:  # pow by libm with a base known at run time only: SQL's power() is the same function
        x = cells[a] * factors[f, 1] ** (-(now - cells[b]) / factors[f, 0]) if cells[b] == cells[b] else 0.0
    elif code == WEEKDAY:
        x = divide(cells[a + weekday], cells[b])
    elif WAVE_SIN <= code <= SUBSET:
        x = divide(weighted(plan, f, cells), cells[b])
    elif code == ENTROPY:
        x = max(log(cells[a]) - cells[b] / cells[a], 0.0) if cells[a] > 0.0 else np.nan
    elif code == HIST_ENTROPY:
        x = hist_entropy(plan, f, cells)
    elif code == DIFFERENCE:
        x = cells[a] * factors[f, 0] - cells[b] * factors[f, 1]
    elif code == INDEX_MAX:
        x = greatest(plan, f, cells)
    return np.float32(min(max(x, -F32_MAX), F32_MAX) if x == x else np.nan)


@jit
def age_rows(
    plan: Plan, as_of_us: I64, weekday: I64, cells: F64, anchors: F64, cursor: I64, budget: int, out: F32
) -> bool:
    """Finish the ageing features of stored rows at another moment, for about `budget` more formulas.

    as_of_us (p,), weekday (p,) int64   the moment of each row, its local weekday
    cells    (CELLS,) float64           scratch
    anchors  (p, a) float64             of the rows, as `run_pairs` gave them
    cursor   (1,) int64                 0 at the start; moved
    out      (p, f) float32             features; those that do not age are left as they are
    returns  true when every row is done
    """
    p, ageing = cursor[0], 0
    while p < out.shape[0]:
        if budget <= 0:
            cursor[0] = p
            return False
        for k in range(plan.anchors.shape[0]):
            cells[plan.anchors[k]] = anchors[p, k]
        ageing = 0
        for f in range(plan.formulas.shape[0]):
            code = plan.formulas[f, CODE]
            if AGE <= code <= WEEKDAY:
                out[p, f] = feature(plan, f, cells, as_of_us[p], weekday[p])
                ageing += 1
        budget -= 4 + 4 * ageing + plan.formulas.shape[0] // 4
        p += 1
    cursor[0] = p
    return True
