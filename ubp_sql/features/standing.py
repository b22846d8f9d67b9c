"""Where a user stands in the population of a day: percentile and item_popularity, after the kernel.

The kernel gives the user's own part, the base feature's value or the item; a *standing* of the day at whose start the
population was looked at turns it into the feature. `*_row` are for one user, without NumPy; their twins for many rows
give the same bits.
"""

import math
import sys
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ubp_sql.kernels.codes import DAY_US

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ubp_sql.kernels.dispatch import F32, F64, I64

PERCENTILE, ITEM_POPULARITY = "percentile", "item_popularity"
FAMILIES = (PERCENTILE, ITEM_POPULARITY)
MOST_KEYS = 1 << 16
"""Of a percentile: different values that are kept. Of more, those that cut the users into as many equal parts."""


class Standing(NamedTuple):
    """What is known of the population for one feature at the start of one UTC day.

    percentile       n users with a value; `keys` their different values, ascending float32; `results` (2k+1) float32:
                     the percentile below the first key, at it, between it and the next, ..., above the last
    item_popularity  n events; `keys` the items they are on, ascending float64; `results` (k) how many are on each
    """

    n: int
    keys: "array[float]"
    results: "array[float]"

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.keys) * self.keys.itemsize + len(self.results) * self.results.itemsize


class Place(NamedTuple):
    """A feature of a set that needs a standing.

    position  in the row, from 0
    family    its aggregate
    anchor    place among the row's anchors of what it is looked up by; -1: the value itself
    """

    position: int
    family: str
    anchor: int


def day_of(as_of_us: int) -> int:
    """The UTC day since 1970 at whose start the population counts for a moment."""
    return as_of_us // DAY_US


def opened(family: str, n: int, keys: bytes, results: bytes) -> Standing:
    """The standing that `keys_of` and `results_of` wrote."""
    return Standing(n, _little("f" if family == PERCENTILE else "d", keys), _little("f", results))


def packed(values: "array[float]") -> bytes:
    """Keys or results as ubp.standings has them, little-endian."""
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _little(code: str, raw: bytes) -> "array[float]":
    values: array[float] = array(code, raw)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def finished_row(row: bytes, anchors: Sequence[float], places: Sequence[Place], standings: Sequence[Standing]) -> bytes:
    """One row of features, float32 in machine order, of what the kernel gave."""
    values = array("f", row)
    for (position, family, anchor), standing in zip(places, standings, strict=True):
        if family == PERCENTILE:
            values[position] = _percentile(standing, values[position])
        else:
            values[position] = _popularity(standing, anchors[anchor])
    return values.tobytes()


def _percentile(standing: Standing, value: float) -> float:
    if value != value:
        return math.nan
    keys = standing.keys
    place = bisect_left(keys, value)
    return standing.results[2 * place + (place < len(keys) and keys[place] == value)]


def _popularity(standing: Standing, item: float) -> float:
    if item != item:
        return math.nan
    keys = standing.keys
    place = bisect_left(keys, item)
    return standing.results[place] if place < len(keys) and keys[place] == item else 0.0


def finish_rows(
    features: "F32", anchors: "F64", places: Sequence[Place], standings: Sequence[Standing], which: "I64 | slice"
) -> None:
    """Some rows of (p, f) features, in place."""
    for (position, family, anchor), standing in zip(places, standings, strict=True):
        if family == PERCENTILE:
            features[which, position] = _percentiles(standing, features[which, position])
        else:
            features[which, position] = _popularities(standing, anchors[which, anchor])


def _percentiles(standing: Standing, values: "F32") -> "F32":
    import numpy as np

    keys, results = np.frombuffer(standing.keys, np.float32), np.frombuffer(standing.results, np.float32)
    place = np.searchsorted(keys, values)
    found: F32 = results[2 * np.minimum(place, len(keys)) + _equal(keys, place, values)]
    found[np.isnan(values)] = np.nan
    return found


def _popularities(standing: Standing, items: "F64") -> "F32":
    import numpy as np

    keys, results = np.frombuffer(standing.keys, np.float64), np.frombuffer(standing.results, np.float32)
    place = np.searchsorted(keys, items)
    found = np.zeros(len(items), np.float32)
    there = _equal(keys, place, items)
    found[there] = results[place[there]]
    found[np.isnan(items)] = np.nan
    return found


def _equal(keys: "F32 | F64", place: "I64", values: "F32 | F64") -> "NDArray[np.bool_]":
    """(p,) whether a value is the key at its place."""
    import numpy as np

    if not len(keys):
        return np.zeros(len(values), np.bool_)
    equal: NDArray[np.bool_] = keys[np.minimum(place, len(keys) - 1)] == values
    return equal


def ranked(keys: "F32", users: "I64") -> Standing:
    """The standing of a percentile.

    keys   (k,) float32, ascending, different, no NaN
    users  (k,) how many have each

    A user's percentile is 100 * (users below + half of those equal) / users. Beyond MOST_KEYS values it is off by at
    most 100 / MOST_KEYS / 2.
    """
    import numpy as np

    above = np.cumsum(users)
    n = int(above[-1]) if len(above) else 0
    if not n:
        return Standing(0, array("f"), array("f", [math.nan]))
    below = above - users
    if len(keys) > MOST_KEYS:
        # Of equal parts the middles, so that no part without a key is wider than one.
        middles = (np.arange(MOST_KEYS) + 0.5) * (n / MOST_KEYS)
        kept = np.unique(np.searchsorted(above, middles, "right"))
        keys, above, below = keys[kept], above[kept], below[kept]
    results = np.empty(2 * len(keys) + 1)
    results[1::2] = (below + above) / 2
    results[0::2] = (np.concatenate(([0], above)) + np.concatenate((below, [n]))) / 2
    return Standing(n, _array("f", keys), _array("f", 100 * results / n))


def counted(items: "F64", events: "I64") -> Standing:
    """The standing of an item's popularity.

    items   (k,) float64, ascending, different: ids, exact below 2**53
    events  (k,) how many are on each
    """
    return Standing(int(events.sum()), _array("d", items), _array("f", events))


def _array(code: str, values: "F32 | F64 | I64") -> "array[float]":
    return array(code, values.astype(code).tobytes())
