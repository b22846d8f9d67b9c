"""What a backend's kernels work in: arrays of the caller, made without a compiler."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ubp_sql.kernels.dispatch import F32, F64, I32, LANES, U32, At, Plan, Scan, Size

LINE = 64  # bytes of a line of the cache, and of the widest vector


def new_scan(plan: Plan, longest: int, low_us: int, high_us: int, seed: int = 0) -> Scan:
    """Scratch of `run_pairs` for users of at most `longest` events and moments from low_us to high_us.

    Pages that are never written cost nothing: a stream is as long as its events are many, not as the user's.
    """
    sizes, streams, links = plan.sizes, len(plan.streams), len(plan.links)
    longest = max(longest, 1)
    at = np.zeros(At.WIDTH, np.int64)
    at[At.USER], at[At.LOW_US], at[At.HIGH_US], at[At.SEED] = -1, low_us, high_us, seed
    return Scan(
        at,
        np.empty((2 * streams, longest), np.int32),
        np.zeros((2 * streams, 1), np.int64),
        np.empty((streams, longest), np.int64),
        np.empty((2 * links, longest), np.int32),
        np.empty((2 * links, longest), np.int32),
        np.empty(1 << (4 * longest + 7).bit_length(), np.int32),
        np.zeros(streams, np.int64),
        np.zeros(sizes[Size.BOUNDS], np.int64),
        np.zeros(sizes[Size.ACC], np.float64),
        np.zeros(sizes[Size.TIM], np.int64),
        np.empty((sizes[Size.MARKS], longest), np.int32),
        np.zeros(sizes[Size.CELLS], np.float64),
    )


def new_rows(columns: int, outputs: int) -> tuple[F32, U32, I32, F64]:
    """Scratch of `add_bits`: a block of rows, their bits, their leaves, their sums."""
    sizes = ((np.float32, columns), (np.uint32, 1), (np.int32, 1), (np.float64, outputs))
    block, bits, leaf, total = (_aligned(size * LANES, np.dtype(kind)) for kind, size in sizes)
    return block, bits, leaf, total


def _aligned(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros from the beginning of a line on: loads of vectors that lie across two take twice as long."""
    room = np.zeros(size * dtype.itemsize + LINE, np.uint8)
    address, _ = room.__array_interface__["data"]
    return room[-address % LINE :][: size * dtype.itemsize].view(dtype)
