"""What operations need: cells, slots of state and columns, as their functions in _cpu_*.py address them.

Imports neither NumPy nor Numba: who builds a plan deals out by it, who opens a stored one checks against it.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable

from ubp_sql.kernels.codes import Op


class State(namedtuple("State", ("stride", "acc", "tim", "marks", "link", "scans"), defaults=(0, 0, 0, False, True))):
    """What an operation of w rings needs: cells a ring, slots of acc and tim, rows of marks."""

    __slots__ = ()


# (rings, SIZE) -> State
STATE: dict[Op, Callable[[int, int], State]] = {
    Op.COUNT: lambda w, size: State(1, scans=False),
    Op.SUM: lambda w, size: State(2, acc=w, tim=w),
    Op.EXTREMA: lambda w, size: State(2, acc=2 * w, tim=w),
    Op.SPREAD: lambda w, size: State(1, acc=3 * w, tim=w),
    Op.DISTINCT: lambda w, size: State(1, tim=w, link=True),
    Op.SEEN: lambda w, size: State(2, scans=False),
    Op.FIRST: lambda w, size: State(1, acc=w, tim=w),
    Op.LAST: lambda w, size: State(size, acc=size, tim=1),
    Op.GAPS: lambda w, size: State(5, acc=3 * w, tim=4 * w),
    Op.DECAY: lambda w, size: State(2, acc=1, tim=2),
    Op.HIST: lambda w, size: State(size, tim=w * size),
    Op.KEYS: lambda w, size: State(3, acc=w, tim=2 * w, marks=1, link=True),
    Op.TOPK: lambda w, size: State(2 * size, tim=2 * (w + 1) * size + 1, marks=2, link=True),
    Op.WORDS: lambda w, size: State(size, tim=w * size),
    Op.FUNNEL: lambda w, size: State(1 + size, tim=w * (1 + size) + size * size),
    Op.SESSIONS: lambda w, size: State(4, tim=3 * w),
    Op.LAST_SESSION: lambda w, size: State(3, tim=4),
    Op.DWELL: lambda w, size: State(2, acc=w, tim=w + 1),
    Op.LAST_KEY: lambda w, size: State(1, acc=1, tim=1),
}
NEEDS_NUMBER = {Op.SUM, Op.EXTREMA, Op.SPREAD, Op.FIRST, Op.LAST}
NEEDS_KEY = {Op.DISTINCT, Op.HIST, Op.KEYS, Op.TOPK, Op.WORDS, Op.LAST_KEY}
ONE_RING = {Op.LAST, Op.DECAY, Op.LAST_SESSION, Op.LAST_KEY}
