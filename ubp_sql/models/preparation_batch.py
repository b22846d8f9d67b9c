"""Programs of preparation.py over many rows at once, column by column in NumPy: the same bits as row by row."""

import math
from array import array
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ubp_sql.errors import BadInput
from ubp_sql.models.preparation import (
    CLIP,
    COPY,
    DOT,
    FILL,
    INTERPOLATE,
    LOG1P,
    MISSING,
    ONE_HOT,
    SCALE,
    TRUNCATE,
    Program,
    Step,
)

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Columns = list[F64]

CHUNK_ROWS = 2_048  # their columns stay in the cache
CHUNK_WORK = 4_000_000  # multiplications between two calls of `between_chunks`: 10 to 40 ms
CHUNK_COLUMNS = 4_000  # columns likewise: however few rows there are, NumPy takes 5 to 20 us for each


def prepare_rows(program: Program, rows: F32, between_chunks: Callable[[], object] | None = None) -> F32:
    """(n, outputs) the model's rows of rows of features, float32. Raises BadInput (UB003) on another type or width."""
    if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != program.features:
        raise BadInput(
            f"the model takes rows of {program.features} float32 values, given: {rows.dtype} of shape {rows.shape}"
        )
    made = np.empty((len(rows), len(program.outputs)), np.float32)
    chunk = max(1, min(CHUNK_ROWS, CHUNK_WORK // program.work))
    done = 0
    with np.errstate(all="ignore"):
        for start in range(0, len(rows), chunk):
            if start and between_chunks is not None:
                between_chunks()
            columns = list(np.ascontiguousarray(rows[start : start + chunk].T, np.float64))
            for step in program.steps:
                apply_step(step, columns)
                done += len(step.columns)
                if done > CHUNK_COLUMNS and between_chunks is not None:
                    between_chunks()
                    done = 0
            for k, i in enumerate(program.outputs):
                made[start : start + chunk, k] = columns[i]
    return made


def apply_step(step: Step, columns: Columns) -> None:
    """Does a step: columns are replaced by new arrays, or added."""
    _BY_CODE[step.code](step, columns)


def _copy(step: Step, columns: Columns) -> None:
    columns.extend([columns[i] for i in step.columns])


def _fill(step: Step, columns: Columns) -> None:
    for i, value in zip(step.columns, step.numbers, strict=True):
        columns[i] = np.where(np.isnan(columns[i]), value, columns[i])


def _missing(step: Step, columns: Columns) -> None:
    columns.extend([np.isnan(columns[i]).astype(np.float64) for i in step.columns])


def _interpolate(step: Step, columns: Columns) -> None:
    values = [columns[i] for i in step.columns]
    known = [~np.isnan(column) for column in values]
    none = np.full(len(values[0]), np.nan)
    above: list[tuple[F64, F64]] = []  # value and width of the next known one, of each column
    b, wb = none, none
    for column, is_known, width in zip(values[::-1], known[::-1], step.numbers[::-1], strict=True):
        above.append((b, wb))
        b, wb = np.where(is_known, column, b), np.where(is_known, width, wb)
    a, wa = none, none
    for i, column, is_known, width, (b, wb) in zip(step.columns, values, known, step.numbers, above[::-1], strict=True):
        between = a + (b - a) * ((width - wa) / (wb - wa))
        found = np.where(np.isnan(wa), b, np.where(np.isnan(wb), a, between))
        columns[i] = np.where(is_known, column, found)
        a, wa = np.where(is_known, column, a), np.where(is_known, width, wa)


def _clip(step: Step, columns: Columns) -> None:
    n = len(step.columns)
    for i, low, high in zip(step.columns, step.numbers[:n], step.numbers[n:], strict=True):
        x = columns[i]
        columns[i] = np.where(x < low, low, np.where(x > high, high, x))


def _log1p(step: Step, columns: Columns) -> None:
    for i in step.columns:
        x = columns[i]
        # libm's, one by one: NumPy's own has other last digits where the processor has AVX-512.
        logs = array("d", map(math.log1p, np.abs(x).tolist()))
        columns[i] = np.copysign(np.frombuffer(logs, np.float64), x)


def _scale(step: Step, columns: Columns) -> None:
    n = len(step.columns)
    for i, mean, scale in zip(step.columns, step.numbers[:n], step.numbers[n:], strict=True):
        columns[i] = (columns[i] - mean) / scale


def _truncate(step: Step, columns: Columns) -> None:
    for i in step.columns:
        columns[i] = np.trunc(columns[i])


def _one_hot(step: Step, columns: Columns) -> None:
    x = columns[step.columns[0]]
    hot = [(x == value).astype(np.float64) for value in step.numbers]
    missing = np.isnan(x).astype(np.float64)
    other = 1.0 - missing
    for column in hot:
        other = other - column
    columns.extend([*hot, other, missing])


def _dot(step: Step, columns: Columns) -> None:
    n = len(step.columns)
    weights = np.asarray(step.numbers[n:]).reshape(-1, n)
    totals = np.zeros((len(weights), len(columns[0])))
    for k, (i, mean) in enumerate(zip(step.columns, step.numbers[:n], strict=True)):
        totals += weights[:, k, None] * (columns[i] - mean)
    columns.extend(totals)


_BY_CODE: dict[int, Callable[[Step, Columns], None]] = {
    COPY: _copy,
    FILL: _fill,
    MISSING: _missing,
    INTERPOLATE: _interpolate,
    CLIP: _clip,
    LOG1P: _log1p,
    SCALE: _scale,
    TRUNCATE: _truncate,
    ONE_HOT: _one_hot,
    DOT: _dot,
}
