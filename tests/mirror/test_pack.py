"""Columns packed and widened again: every bit, both ways of widening, as narrow as can be."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ubp_sql.errors import NotReady
from ubp_sql.install import native as build
from ubp_sql.kernels import native
from ubp_sql.kernels.dispatch import NO_KEY
from ubp_sql.kernels.forms import FLOAT, form
from ubp_sql.kernels.widen import Widener
from ubp_sql.mirror.arrays import Arrays
from ubp_sql.mirror.pack import Packed, pack

ENDS = [1 << 8, 1 << 16, 1 << 24, 1 << 32, 1 << 48, 1 << 63]
INTEGERS = st.one_of(
    st.sampled_from([NO_KEY, NO_KEY + 1, -1, 0, 1, *(end + d for end in ENDS for d in (-2, -1))]),
    st.integers(NO_KEY, 2**63 - 1),
    st.integers(-100, 100).map(lambda n: 1_000_000 * n),
    st.integers(-100, 100).map(lambda n: 1_000 * n),
)
DECIMAL = st.integers(-(10**9), 10**9)
NUMBERS = st.one_of(
    st.floats(),
    st.floats(width=32),
    DECIMAL.map(lambda n: n / 100),
    DECIMAL.map(lambda n: n / 10_000),
    st.sampled_from([0.0, -0.0, float("nan"), 2.0**52, 2.0**52 + 1, 2.0**53 + 2, 5e-324, 1e308]),
)


@pytest.fixture(params=["library", "NumPy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    build.build()
    assert native.entry("ubp_widen") is not None
    if request.param == "NumPy":
        monkeypatch.setattr(native, "entry", lambda name: None)
    return str(request.param)


def widened(packed: Packed, n: int, dtype: Any) -> "np.ndarray[Any, Any]":
    out = np.full(n + 2, 77, dtype)
    Widener(out).column(packed.raw, 1, n, packed.form, packed.base)
    assert out[0] == out[-1] == 77
    return out[1:-1]


def both_ways(packed: Packed, column: "np.ndarray[Any, Any]") -> None:
    usual: Callable[[str], Any] = native.entry
    for entry in (usual, lambda name: None):
        native.entry = entry  # type: ignore[assignment]
        try:
            assert widened(packed, len(column), column.dtype).tobytes() == column.tobytes()
        finally:
            native.entry = usual  # type: ignore[assignment]


@given(st.lists(INTEGERS, max_size=40), st.booleans())
def test_integers(values: list[int], time: bool) -> None:
    column = np.array(values, np.int64)
    both_ways(pack(column, time=time), column)


@given(st.one_of(st.lists(NUMBERS, max_size=40), st.lists(st.one_of(DECIMAL.map(lambda n: n / 100), st.just(np.nan)))))
def test_numbers(values: list[float]) -> None:
    column = np.array(values, np.float64)
    both_ways(pack(column), column)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5))
def test_the_bits_of_any_nan(values: list[int]) -> None:
    column = np.array(values, np.uint64).view(np.float64)
    both_ways(pack(column), column)


DAY = 1_700_000_000_000_000
NARROWEST = [
    (np.array([7, 7]), False, 1),
    (np.array([0, 254]), False, 1),
    (np.array([0, 255]), False, 2),
    (np.array([-3, NO_KEY, 65_531]), False, 2),
    (np.array([-3, NO_KEY, 65_532]), False, 3),
    (np.array([0, (1 << 24) - 1]), False, 4),
    (np.array([0, (1 << 32) - 1]), False, 6),
    (np.array([0, (1 << 48) - 1]), False, 8),
    (np.array([NO_KEY + 1, 2**63 - 1]), False, 8),
    (np.array([DAY, DAY + 4_000_000_000_000_000]), True, form(4, 6)),
    (np.array([DAY, DAY + 4_000_000_001_000]), True, form(4, 3)),
    (np.array([DAY, DAY + 4_000_000_000_001]), True, 6),
    (np.array([np.nan, 1.0, 200.0]), False, 1),
    (np.array([0.0, 19.99, np.nan]), False, form(2, 2)),
    (np.array([0.0, 2684.35]), False, form(3, 2)),
    (np.array([0.0, 0.0001]), False, form(1, 4)),
    (np.array([1e9, 1e9 + 0.01]), False, form(1, 2)),
    (np.array([0.0, 1e9 + 0.01]), False, form(6, 2)),
    (np.array([-0.0, 1.0]), False, form(4, FLOAT)),
    (np.array([1e300]), False, form(8, FLOAT)),
    (np.array([0.1 + 0.2]), False, form(8, FLOAT)),
    (np.array([np.inf, np.nan]), False, form(4, FLOAT)),
]


@pytest.mark.parametrize(("column", "time", "wanted"), NARROWEST)
def test_the_narrowest_form(column: "np.ndarray[Any, Any]", time: bool, wanted: int) -> None:
    packed = pack(column, time=time)
    assert packed.form == wanted
    both_ways(packed, column)


PARTS = (2, 1, 5, 3, 0, 0, 1, 2, 10)


def test_parts(way: str) -> None:
    out = np.arange(6)
    Widener(out).parts(bytes([0, 255, 1, 1]), PARTS)
    assert out.tolist() == [5, NO_KEY, 2, 3, 4, 10 + 257]


@pytest.mark.parametrize(
    ("raw", "form_", "dtype"),
    [
        (b"12", 1, np.int64),
        (b"", 1, np.int64),
        (b"123", 5, np.int64),
        (b"123", 0, np.int64),
        (b"123", 2, np.int64),
        (b"123", form(1, 7), np.int64),
        (bytes(12), form(4, FLOAT), np.int64),
        (bytes(24), 8, np.float64),
        (bytes(24), form(8, 2), np.int64),
        (b"123", 1 << 40, np.int64),
        (b"123", -255, np.int64),
    ],
)
def test_what_does_not_fit(way: str, raw: bytes, form_: int, dtype: Any) -> None:
    with pytest.raises(NotReady, match="damaged"):
        Widener(np.zeros(3, dtype)).column(raw, 0, 3, form_, 0)
    with pytest.raises(NotReady, match="damaged"):
        Widener(np.zeros(3, dtype)).parts(raw, (3, form_, 0))


def test_a_whole_column_has_a_form(way: str) -> None:
    with pytest.raises(NotReady, match="damaged"):
        Widener(np.zeros(3, np.int64)).column(b"", 0, 3, 0, 0)


def test_nothing_is_written_outside(way: str) -> None:
    for low, n in ((-1, 2), (2, 2), (0, -1)):
        with pytest.raises(IndexError):
            Widener(np.zeros(3, np.int64)).column(b"11", low, n, 1, 0)
    with pytest.raises(IndexError):
        Widener(np.zeros(3, np.int64)).parts(b"1111", (4, 1, 0))
    for array in (np.zeros(3, np.int32), np.zeros((3, 1)), np.zeros(6)[::2]):
        with pytest.raises(TypeError):
            Widener(array)


def test_an_array_is_used_again_once_nobody_sees_it() -> None:
    arrays = Arrays()
    first = arrays.empty(100, np.dtype(np.int64))
    at = first.ctypes.data
    view = first[10:]
    del first
    other = arrays.empty(100, np.dtype(np.int64))
    assert other.ctypes.data != at
    assert not np.shares_memory(view, other)
    del view
    assert arrays.empty(100, np.dtype(np.float64)).ctypes.data not in (at, other.ctypes.data)
    again = arrays.empty(90, np.dtype(np.int64))
    assert (again.ctypes.data, len(again)) == (at, 90)
