"""Arrays for one batch after the other."""

from sys import getrefcount
from typing import Any

import numpy as np

from ubp_sql.mirror.layout import Column

MOST = 32
HUGE = 1 << 22
"""Bytes from which on NumPy asks the system for huge pages."""


class Arrays:
    """Makes arrays, or gives one again of which nobody holds a view any more.

    The system hands out memory page by page and fills it with zeros: to widen packed columns into fresh arrays takes
    twice as long.
    """

    def __init__(self) -> None:
        self._made: list[Column] = []

    def empty(self, n: int, dtype: "np.dtype[Any]") -> Column:
        """(n,) of anything."""
        for whole in self._made:
            # The list, `whole` and the argument hold it, and each view.
            if whole.dtype == dtype and len(whole) >= n and getrefcount(whole) == 3:
                return whole[:n]
        whole = np.empty(max(n + n // 8, HUGE // dtype.itemsize), dtype)
        if len(self._made) < MOST:
            self._made.append(whole)
        return whole[:n]
