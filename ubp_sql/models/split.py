"""Who answers for whom while several versions of a model share a task's users: the same one for as long as they do.

A user's place depends on the task and the user alone, so a share that grows keeps the users it had, and two tasks
split their users differently. Vigna's splitmix64 finalizer (public domain, prng.di.unimi.it/splitmix64.c).
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WORD = (1 << 64) - 1
_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_UNIT = 2.0**-53


def place(task: str, user_id: int) -> float:
    """Where a user stands among the task's users, 0 <= place < 1, evenly spread."""
    x = (user_id + _seed(task)) & _WORD
    x = ((x ^ (x >> 30)) * _MIX_1) & _WORD
    x = ((x ^ (x >> 27)) * _MIX_2) & _WORD
    return ((x ^ (x >> 31)) >> 11) * _UNIT


def places(task: str, user_ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) as `place`, of many."""
    import numpy as np

    x = user_ids.view(np.uint64) + np.uint64(_seed(task))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX_1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX_2)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * np.float64(_UNIT)


def arms(task: str, user_ids: NDArray[np.int64], bounds: Sequence[float]) -> NDArray[np.intp]:
    """(n,) the number of the challenger that answers for each user, len(bounds) for the champion."""
    import numpy as np

    return np.searchsorted(bounds, places(task, user_ids), side="right")


def bounds(shares: Sequence[float]) -> list[float]:
    """Up to which place, without, each of the challengers answers, in their order."""
    found, so_far = [], 0.0
    for share in shares:
        so_far += share
        found.append(so_far)
    return found


def _seed(task: str) -> int:
    return (crc32(task.encode()) * _GOLDEN) & _WORD
