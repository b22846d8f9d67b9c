"""The law that makes float32 comparison exact: x <= t and x <= round_down(t) agree for every float32 x."""

import math
import struct

from hypothesis import given
from hypothesis import strategies as st

from tests.models.forest_makers import AWKWARD, LARGEST
from ubp_sql.models.forest import next_below, round_down

FLOAT32 = st.floats(width=32, allow_nan=False) | st.integers(0, 2**32 - 1).map(
    lambda word: struct.unpack("<f", struct.pack("<I", word))[0]
).filter(lambda x: not math.isnan(x))


def near(x: float) -> st.SearchStrategy[float]:
    """Doubles at, just above and just below a float32."""
    return st.sampled_from([x, math.nextafter(x, math.inf), math.nextafter(x, -math.inf)])


@given(x=FLOAT32, t=st.floats(allow_nan=False) | FLOAT32.flatmap(near))
def test_any_float32_against_any_threshold(x: float, t: float) -> None:
    assert (x <= t) == (x <= round_down([t])[0])


@given(data=st.data(), x=FLOAT32)
def test_a_float32_against_thresholds_around_it(data: st.DataObject, x: float) -> None:
    t = data.draw(near(x))
    assert (x <= t) == (x <= round_down([t])[0])


@given(t=st.floats(allow_nan=False))
def test_result_is_the_largest_float32_not_above(t: float) -> None:
    rounded = round_down([t])[0]
    assert rounded <= t
    if rounded < LARGEST:
        above = -next_below(-rounded)
        assert above > t
    assert math.isfinite(t) or rounded == t


def test_ends_of_the_range() -> None:
    assert round_down([1e300, 3.5e38, -3.5e38, -1e300]).tolist() == [LARGEST, LARGEST, -math.inf, -math.inf]
    assert round_down([math.inf, -math.inf, LARGEST, -LARGEST]).tolist() == [math.inf, -math.inf, LARGEST, -LARGEST]
    assert round_down([1e-320, -1e-320]).tolist() == [0.0, -(2.0**-149)]
    assert math.isnan(round_down([math.nan])[0])
    assert all(a <= b for a, b in zip(round_down(AWKWARD), AWKWARD, strict=True))


@given(x=FLOAT32.filter(lambda x: x > -math.inf))
def test_next_below_leaves_nothing_between(x: float) -> None:
    below = next_below(x)
    assert below < x
    assert struct.unpack("<f", struct.pack("<f", below))[0] == below
    middle = struct.unpack("<f", struct.pack("<f", below + (x - below) / 2))[0] if math.isfinite(x - below) else x
    assert middle in (x, below)
