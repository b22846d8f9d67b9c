"""A stored plan that was let in, run by the native library on some events: it checks no index of a plan."""

from array import array
from functools import cache
from random import Random

from ubp_sql.api.live_set import Native
from ubp_sql.kernels.codes import HOUR_US
from ubp_sql.kernels.live_layout import AGAIN, DONE, MISSING, NAN, NOBODY, SENT, TIME, ZERO
from ubp_sql.kernels.live_plan import LivePlan

EVENTS = 60
AS_OF_US = 1_700_000_000_000_000
POSTGRES_EPOCH_US = 946_684_800_000_000
MOST_WORDS = 4 << 20
BUDGET, MOST_CALLS = 100_000, 200


def run_plan(plan: LivePlan) -> None:
    """Raises AssertionError where the library says anything but that there is a row, or that no event counts."""
    numbers, keys = len(plan.numbers), len(plan.keys)
    table = [1, numbers, keys, 0, 0, AS_OF_US, AS_OF_US, 0]
    table += [-1, ZERO, -1, TIME, -1, ZERO, -1, ZERO, -1, ZERO, *[-1, NAN] * numbers, *[-1, MISSING] * keys]
    table += [EVENTS, SENT, 0, *[0, EVENTS] * (5 + numbers + keys)]
    native, held = Native(plan), array("q", table)
    words = native._room(plan.blob, held.buffer_info()[0], native._at_begins)  # type: ignore[misc]
    if words > MOST_WORDS:
        return  # state for far more than any set has: allocated by a session, for events of its own
    said = native.call(held, _events(numbers, keys, len(plan.kinds)), BUDGET)
    for _ in range(MOST_CALLS):
        if said != AGAIN:
            break
        said = native.again(b"", BUDGET)
    assert said in (DONE, NOBODY, AGAIN), f"the library said {said}"
    assert not any(native._work[words:]), "the library wrote beyond its buffer"


@cache
def _events(numbers: int, keys: int, kinds: int) -> bytes:
    """Columns of a user's events: whole numbers and floats, then marks and offsets."""
    random = Random(7)
    t = sorted(AS_OF_US - POSTGRES_EPOCH_US - random.randrange(200 * 24) * HOUR_US // 3 for _ in range(EVENTS))
    longs = [*t, *t, *range(EVENTS)]
    values = [random.choice([0.0, 1.0, float("nan"), random.gauss(10, 5)]) for _ in range(EVENTS * numbers)]
    keyed = [random.randrange(9) for _ in range(EVENTS * keys)]
    marks = [1 + random.randrange(max(1, kinds)) for _ in range(EVENTS)]
    parts = (array("q", longs), array("d", values), array("q", keyed), array("i", marks), array("i", [0] * EVENTS))
    return b"".join(part.tobytes() for part in parts)
