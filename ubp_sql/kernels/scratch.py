"""What a backend's kernels work in: arrays of the caller, made without a compiler."""

import numpy as np

from ubp_sql.kernels.dispatch import At, Plan, Scan, Size


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
