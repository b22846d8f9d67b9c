"""Models ready to score, whatever their form, and the cache of them that a server process keeps.

A compiled model says by its first eight bytes what it is; `open_model` gives an object of the interface `Loaded`.
Neither NumPy nor Numba is imported for one row.
"""

from __future__ import annotations

from array import array
from time import time

from ubp_sql.errors import InvalidModel
from ubp_sql.kernels import native
from ubp_sql.models.blob import MAGIC as TREES
from ubp_sql.models.blob import open_blob
from ubp_sql.models.limits import other_format
from ubp_sql.models.walker import Walker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]

NETWORK = b"UBPONNX1"  # what ONNX Runtime evaluates, once it ran well in a process of its own
PREPARED, PREPARED_NETWORK = b"UBPPREPA", b"UBPPREPN"  # a model and what is done to its features before it
NETWORKS = NETWORK, PREPARED_NETWORK


class Loaded:
    """A model ready to score packed rows: float32 in machine order, one after the other.

    features  numbers of a row; `size`: its bytes
    outputs   scores of a row; score_packed is for models of one
    nbytes    what a process holds of it, about
    loaded_at, used_at  seconds since 1970
    """

    form: str
    features: int
    outputs: int
    size: int
    nbytes: int
    loaded_at: float
    used_at: float

    def score_packed(self, packed: bytes, population: int = -1) -> float | None:
        """Score of a row of `size` bytes; None when its column `population` is below 1: too little history."""
        raise NotImplementedError

    def all_packed(self, packed: bytes) -> list[float]:
        """All outputs for a row of `size` bytes."""
        raise NotImplementedError

    def score_batch(self, rows: F32, between_chunks: Callable[[], object] | None = None) -> F64:
        """(n, outputs) of rows (n, features); between_chunks is called at least every 80 ms."""
        raise NotImplementedError


class TreeModel(Loaded):
    """Trees, read in place by the native library, else by the walker in plain Python."""

    form = "trees"

    def __init__(self, compiled: bytes) -> None:
        # The native scorer checks no bounds: only bytes that open_blob has accepted reach it.
        self.blob = open_blob(compiled)
        self.compiled = compiled
        self.features, self.outputs = self.blob.n_features, self.blob.n_outputs
        self.size = 4 * self.features
        # The blob's arrays hold what the bytes hold once more; the walker's code is some 250 bytes a leaf.
        self.nbytes = 2 * len(compiled)
        self.native = native.entry("ubp_score_row")
        self.walker = None
        if self.native is None:
            self.walker = Walker(self.blob)
            self.nbytes += 250 * len(self.blob.leaf_value)
        # In an instance's attribute: found without a look at the class.
        self.score_packed = self._native if self.native is not None else self._plain  # type: ignore[method-assign]

    def _native(self, packed: bytes, population: int = -1) -> float | None:
        value: float = self.native(self.compiled, packed, population)  # type: ignore[misc]
        return None if value != value else value

    def _plain(self, packed: bytes, population: int = -1) -> float | None:
        values = array("f", packed)
        if population >= 0 and not values[population] >= 1.0:
            return None
        return self.walker.score(values)  # type: ignore[union-attr]

    def all_packed(self, packed: bytes) -> list[float]:
        if self.walker is not None:
            return self.walker.scores(array("f", packed))
        scores = array("d", bytes(8 * self.outputs))
        native.entry("ubp_score_outputs")(self.compiled, packed, scores.buffer_info()[0])  # type: ignore[misc]
        return scores.tolist()

    def score_batch(self, rows: F32, between_chunks: Callable[[], object] | None = None) -> F64:
        from ubp_sql.models.batch import score_batch

        return score_batch(self.blob, rows, between_chunks)


def open_model(compiled: bytes, depth: int = 0) -> Loaded:
    """The model in compiled bytes, all of it checked.

    depth  how many preparations of features it stands behind

    Raises InvalidModel (UB006) for bytes that no compiler of ours can have made, UnsupportedModel (UB007) for another
    layout.
    """
    if compiled.startswith(TREES):
        return TreeModel(compiled)
    if compiled.startswith(b"UBPLINEA"):
        from ubp_sql.models.linear import LinearModel

        return LinearModel(compiled)
    if compiled.startswith(NETWORK):
        from ubp_sql.models.onnx_runtime import OnnxModel

        return OnnxModel(compiled)
    if compiled.startswith((PREPARED, PREPARED_NETWORK)):
        from ubp_sql.models.preparation_blob import PreparedModel

        return PreparedModel(compiled, depth + 1)
    found = other_format(compiled)
    what, hint = found if found else ("something else", None)
    raise InvalidModel(f"this is {what}, not a compiled model", hint)


class ModelCache:
    """The models of a server process, by a key of the caller: the one used longest ago goes first.

    most_bytes  what they may hold together; the newest stays whatever its size
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.nbytes = 0
        self._models: dict[object, Loaded] = {}
        self._holders: dict[object, dict[object, Callable[[], object]]] = {}

    def get(self, key: object) -> Loaded | None:
        """The model of that key, used just now."""
        loaded = self._models.get(key)
        if loaded is not None:
            loaded.used_at = time()
        return loaded

    def add(self, key: object, loaded: Loaded) -> Loaded:
        """Keeps a model; others go until all fit."""
        self.drop(key)
        loaded.loaded_at = loaded.used_at = time()
        self._models[key], self._holders[key] = loaded, {}
        self.nbytes += loaded.nbytes
        while self.nbytes > self.most_bytes and len(self._models) > 1:
            self.drop(min((k for k in self._models if k != key), key=lambda k: self._models[k].used_at))
        return loaded

    def hold(self, key: object, who: object, forget: Callable[[], object]) -> None:
        """Somebody else refers to the model of that key: `forget`, the last one of `who`, is called when it goes."""
        if key in self._holders:
            self._holders[key][who] = forget

    def drop(self, key: object) -> None:
        """Lets a model go."""
        loaded = self._models.pop(key, None)
        if loaded is not None:
            self.nbytes -= loaded.nbytes
            for forget in self._holders.pop(key).values():
                forget()

    def items(self) -> list[tuple[object, Loaded]]:
        """(key, model), used longest ago first."""
        return sorted(self._models.items(), key=lambda item: item[1].used_at)
