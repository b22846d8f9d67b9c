"""Equal answers, or nothing is timed: counts exactly, floats within a relative tolerance, missing values alike."""

from collections.abc import Iterable

import numpy as np

from bench.event_log import F64
from bench.features25 import EXACT

RELATIVE = 1e-6
"""What float32 and another order of summation may cost; counts may cost nothing."""


def require(name: str, found: F64, expected: F64, features: Iterable[str], rows: Iterable[object]) -> None:
    """Two tables (rows, features) agree. Raises SystemExit with the first difference of each feature that differs.

    `rows` name the rows: users, or users with moments.
    """
    if found.shape != expected.shape:
        raise SystemExit(f"{name}: {found.shape[0]} rows of {found.shape[1]} features, not {expected.shape}")
    labels, lines = list(rows), []
    for number, feature in enumerate(features):
        mine, theirs = found[:, number].astype(np.float64), expected[:, number].astype(np.float64)
        wrong = np.flatnonzero(~_equal(mine, theirs, 0.0 if feature in EXACT else RELATIVE))
        if len(wrong):
            at = wrong[0]
            lines.append(
                f"{feature} at {labels[at]}: {float(mine[at])!r}, not {float(theirs[at])!r} ({len(wrong)} rows differ)"
            )
    if lines:
        raise SystemExit("\n  ".join([f"{name} gives other answers, nothing is timed:", *lines]))


def _equal(mine: F64, theirs: F64, relative: float) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    # A mean over one value and its spread: 1e-9 is below a tenth of a millisecond in days, and below a cent.
    near: np.ndarray[tuple[int], np.dtype[np.bool_]] = np.isclose(
        mine, theirs, rtol=relative, atol=0.0 if relative == 0 else 1e-9, equal_nan=True
    )
    return near
