"""A user's last events as a fixed number of rows of numbers, for models that read sequences."""

from collections.abc import Callable

import numpy as np

from ubp_sql.errors import BadInput
from ubp_sql.features.events import NO_KEY, Events
from ubp_sql.kernels.codes import DAY_US
from ubp_sql.kernels.dispatch import F32, I32, I64

COLUMNS = ("kind", "item", "gap_days", "value", "has_value", "mask")
"""What the numbers of a row are.

    kind       place of the event's kind in the feature set's kinds, 1..k; 0 in padding
    item       1 + the item's code, 1..2**20; 0 without an item and in padding
    gap_days   days since the user's event before, also when that one is cut off; 0 for the first event of all
    value      the event's value held within float32's finite range; 0 without one
    has_value  1 where there is a value, else 0
    mask       1; 0 in padding
"""
CODE_BITS = 20
"""An item's code has 20 bits, so that 1 + code is exact in float32."""
MAX_LENGTH = 4096
F32_MAX = float(np.finfo(np.float32).max)


def item_code(item: I64) -> I64:
    """20 bits of a hash of each item (Stafford's mix 13), the codes that top_keys and last_key give: (n,) int64."""
    h = item.astype(np.uint64)
    with np.errstate(over="ignore"):
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((h ^ (h >> np.uint64(31))) & np.uint64((1 << CODE_BITS) - 1)).astype(np.int64)


def sequences(
    events: Events, as_of_us: int, known_at_us: int, length: int, pause: Callable[[], None] = lambda: None
) -> tuple[F32, I32]:
    """The last `length` events of each user before a moment, oldest first, padded with zeros at the front.

    An event counts iff its time is before as_of, it was ingested at or before known_at and its kind is one of the
    definition's. `events` has the number `value` and the key `item`.

    pause    called between parts of the work, which take some 10 ms a million events each
    returns  (u, length, 6) float32, the columns of COLUMNS; (u,) int32 how many rows are events, 0..length

    Raises BadInput (UB003) unless 1 <= length <= 4096.
    """
    if not 1 <= length <= MAX_LENGTH:
        raise BadInput(f"a sequence of {length} events", f"ask for 1 to {MAX_LENGTH}")
    counts = (events.kind >= 0) & (events.t_us < as_of_us) & (events.ingested_us <= known_at_us)
    total = np.concatenate(([0], np.cumsum(counts)))
    pause()
    kept = np.flatnonzero(counts)
    begin = total[events.first]
    sizes = np.diff(begin)
    t_us = events.t_us[kept]
    gaps = np.diff(t_us, prepend=t_us[:1])
    gaps[begin[:-1][sizes > 0]] = 0
    pause()
    user = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(kept)) - np.repeat(begin[1:], sizes) + length
    last = place >= 0
    kept, user, place, gaps = kept[last], user[last], place[last], gaps[last]
    pause()
    item, value = events.keys["item"][kept], events.numbers["value"][kept]
    rows = np.zeros((len(sizes), length, len(COLUMNS)), np.float32)
    columns = (
        events.kind[kept] + 1,
        np.where(item == NO_KEY, 0, 1 + item_code(item)),
        gaps / DAY_US,
        np.clip(np.nan_to_num(value, nan=0.0, posinf=F32_MAX, neginf=-F32_MAX), -F32_MAX, F32_MAX),
        ~np.isnan(value),
        1,
    )
    for number, column in enumerate(columns):
        rows[user, place, number] = column
        pause()
    return rows, np.minimum(sizes, length).astype(np.int32)
