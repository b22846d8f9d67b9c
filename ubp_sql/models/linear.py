"""Linear models: their compiled form, and how it is scored.

    offset  type       content
    0       8 bytes    magic "UBPLINEA"
    8       u16        version of this layout, 1
    10      u16        length of this header, 64
    12      u32        0
    16      u32        f, features a row has
    20      12 bytes   0
    32      u16        k, outputs
    34      u16        link, a number of kernels/forest_codes.py
    36      u32        0
    40      f64        parameter of the link
    48      u64        length of the whole value
    56      u64        0
    64      f64 [k*f]  weight: output j has weight[j*f:(j+1)*f]
            f64 [k*f]  missing: what is added in place of weight * x where x is NaN; NaN where the model has nothing
            f64 [k]    bias
            u32        CRC-32 of all before

The header is that of a compiled forest with other counts. Sum j is bias[j], to which the features are added in their
order, in float64; a feature without a weight in any output is left out. A library that sums in float32, or in another
order, differs in the last digits of a float32. Scaling and imputation in front are folded in by the importers.

The sum is NaN, and one row has no score, where a missing feature meets no value for it.
"""

from __future__ import annotations

import math
import sys
from array import array
from struct import Struct
from zlib import crc32

from ubp_sql.errors import BadInput, InvalidModel, UnsupportedModel
from ubp_sql.kernels.forest_codes import LINKS, SOFTMAX
from ubp_sql.models.limits import MAX_FEATURES, MAX_OUTPUTS, MAX_WEIGHTS
from ubp_sql.models.loaded import Loaded
from ubp_sql.models.walker import link_totals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]

MAGIC, LAYOUT = b"UBPLINEA", 1
_HEADER = Struct("<8sHHII12sHHIdQQ")
_NONE = bytes(12)
CHUNK_ROWS = 2_048  # their columns stay in the cache
CHUNK_PRODUCTS = 4_000_000  # between two calls of `between_chunks`, at most: 10 to 20 ms


class Linear:
    """A linear model; weight and missing are rows of outputs, each of `n_features`, as the module's docstring says."""

    __slots__ = ("bias", "link", "link_parameter", "missing", "n_features", "weight")

    def __init__(
        self,
        weight: Sequence[float],
        missing: Sequence[float],
        bias: Sequence[float],
        link: int,
        link_parameter: float = 1.0,
    ) -> None:
        self.weight, self.missing, self.bias = array("d", weight), array("d", missing), array("d", bias)
        self.link, self.link_parameter = link, link_parameter
        self.n_features = len(self.weight) // max(1, len(self.bias))

    @property
    def n_outputs(self) -> int:
        return len(self.bias)

    @property
    def takes_missing(self) -> bool:
        """Whether every feature with a weight may be missing."""
        return not any(map(math.isnan, self.missing))

    def validate(self) -> None:
        """Raises InvalidModel (UB006) unless sizes, numbers and link are sound."""
        f, k = self.n_features, self.n_outputs
        if not (0 < f <= MAX_FEATURES and 0 < k <= MAX_OUTPUTS and f * k <= MAX_WEIGHTS):
            raise InvalidModel(f"the linear model counts {f} features for each of {k} outputs")
        if not len(self.weight) == len(self.missing) == f * k:
            raise InvalidModel(f"the linear model has {len(self.weight)} weights for {f} features and {k} outputs")
        if not (all(map(math.isfinite, self.weight)) and all(map(math.isfinite, self.bias))):
            raise InvalidModel("the linear model has a weight that is not finite")
        if any(map(math.isinf, self.missing)):
            raise InvalidModel("the linear model has an infinite value for a missing feature")
        if self.link == SOFTMAX and k == 1:
            raise InvalidModel("the linear model's link 2 is of several outputs, it counts 1")
        if not (0 <= self.link < LINKS and 0.0 < self.link_parameter < math.inf):
            raise InvalidModel(f"the linear model's link {self.link} with {self.link_parameter!r} does not exist")

    def placed(self, places: Sequence[int]) -> Linear:
        """The same model for rows where its feature i is column places[i]."""
        f = self.n_features
        weight, missing = self.weight[:], self.missing[:]
        for j in range(0, f * self.n_outputs, f):
            for i, place in enumerate(places):
                weight[j + place], missing[j + place] = self.weight[j + i], self.missing[j + i]
        return Linear(weight, missing, self.bias, self.link, self.link_parameter)


def compile_linear(linear: Linear) -> bytes:
    """The compiled form; raises InvalidModel (UB006) where the model is not sound."""
    linear.validate()
    values = array("d", (*linear.weight, *linear.missing, *linear.bias))
    if sys.byteorder == "big":
        values.byteswap()
    header = _HEADER.pack(
        *(MAGIC, LAYOUT, _HEADER.size, 0, linear.n_features, _NONE, linear.n_outputs, linear.link, 0),
        *(linear.link_parameter, _HEADER.size + 8 * len(values) + 4, 0),
    )
    body = header + values.tobytes()
    return body + crc32(body).to_bytes(4, "little")


def open_linear(data: bytes) -> Linear:
    """The model in compiled bytes, all of it checked. Raises InvalidModel (UB006), UnsupportedModel (UB007)."""
    if len(data) < _HEADER.size + 4 or not data.startswith(MAGIC):
        raise InvalidModel(f"the compiled linear model is cut short at {len(data)} bytes")
    _, layout, header, flags, f, none, k, link, zero, parameter, length, last = _HEADER.unpack_from(data)
    if layout != LAYOUT:
        raise UnsupportedModel(
            f"the compiled linear model has layout {layout}, known is {LAYOUT}", "register the model again"
        )
    if not (0 < f <= MAX_FEATURES and 0 < k <= MAX_OUTPUTS and f * k <= MAX_WEIGHTS):
        raise InvalidModel(f"the compiled linear model counts {f} features for each of {k} outputs")
    if not length == len(data) == _HEADER.size + 8 * k * (2 * f + 1) + 4:
        raise InvalidModel(f"the compiled linear model has {len(data)} bytes, its header tells of another number")
    if crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise InvalidModel("the compiled linear model is damaged: its checksum differs")
    if header != _HEADER.size or flags or none != _NONE or zero or last:
        raise InvalidModel("the compiled linear model's header has a field of an unknown meaning")
    values = array("d", data[_HEADER.size : -4])
    if sys.byteorder == "big":
        values.byteswap()
    linear = Linear(values[: f * k], values[f * k : 2 * f * k], values[2 * f * k :], link, parameter)
    linear.validate()
    return linear


class LinearModel(Loaded):
    """A linear model: one row in plain Python, many in NumPy, the same bits."""

    form = "linear"

    def __init__(self, compiled: bytes) -> None:
        self.linear = open_linear(compiled)
        self.features, self.outputs = self.linear.n_features, self.linear.n_outputs
        self.size = 4 * self.features
        f, weight, missing = self.features, self.linear.weight, self.linear.missing
        starts = range(0, f * self.outputs, f)
        # Features that no output reads: an infinite one would still be multiplied by 0.
        self._used = [i for i in range(f) if any(weight[j + i] or missing[j + i] for j in starts)]
        self._terms = [
            (bias, [(i, weight[j + i], missing[j + i]) for i in self._used])
            for j, bias in zip(starts, self.linear.bias, strict=True)
        ]
        self.nbytes = 2 * len(compiled) + 120 * f * self.outputs  # Python's floats

    def score_packed(self, packed: bytes, population: int = -1) -> float | None:
        row = array("f", packed)
        if population >= 0 and not row[population] >= 1.0:
            return None
        value = self._scores(row)[0]
        return None if value != value else value

    def all_packed(self, packed: bytes) -> list[float]:
        return self._scores(array("f", packed))

    def _scores(self, row: Sequence[float]) -> list[float]:
        totals = []
        for total, terms in self._terms:
            for i, w, instead in terms:
                x = row[i]
                total += w * x if x == x else instead
            totals.append(total)
        return link_totals(totals, self.linear.link, self.linear.link_parameter)

    def score_batch(self, rows: F32, between_chunks: Callable[[], object] | None = None) -> F64:
        from ubp_sql.kernels.dispatch import backend

        sums = self.raw_batch(rows, between_chunks)
        return backend().forest_score(sums, 1.0, self.linear.link, self.linear.link_parameter)

    def raw_batch(self, rows: F32, between_chunks: Callable[[], object] | None = None) -> F64:
        """(n, outputs) the sums before the link; arguments as of score_batch."""
        import numpy as np

        linear, f, k = self.linear, self.features, self.outputs
        if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != f:
            raise BadInput(f"the model takes rows of {f} float32 values, given: {rows.dtype} of shape {rows.shape}")
        weight, missing = (np.asarray(part).reshape(k, f, 1) for part in (linear.weight, linear.missing))
        sums = np.empty((len(rows), k))
        chunk = max(1, min(CHUNK_ROWS, CHUNK_PRODUCTS // (f * k)))
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(rows), chunk):
                if start and between_chunks is not None:
                    between_chunks()
                columns = np.ascontiguousarray(rows[start : start + chunk].T, np.float64)
                total = np.repeat(np.asarray(linear.bias)[:, None], columns.shape[1], axis=1)
                unknown = np.isnan(columns)
                some = set(np.flatnonzero(unknown.any(axis=1)).tolist())
                for i in self._used:
                    term = weight[:, i] * columns[i]
                    if i in some:
                        np.copyto(term, missing[:, i], where=unknown[i])
                    total += term
                sums[start : start + chunk] = total.T
        return sums
