"""A model and what is done to its features before it, as one compiled value.

    offset  type      content
    0       8 bytes   magic "UBPPREPA", "UBPPREPN" where the model is a neural network
    8       u16       version of this layout, 1
    10      u16       length of this header, 64
    12      u32       0
    16      u32       f, features a row has
    20      u32       m, features the model takes
    24      u32       steps
    28      u32       length of the program
    32      u16       k, outputs
    34      u16, u32  0
    40      u64       0
    48      u64       length of the whole value
    56      u64       0
    64      bytes     the program (preparation.py)
            bytes     the compiled model
            u32       CRC-32 of all before

A network is told by the first bytes, as everywhere: nobody runs one that was not seen to run.
"""

from __future__ import annotations

from array import array
from struct import Struct
from zlib import crc32

from ubp_sql.errors import InvalidModel, UnsupportedModel
from ubp_sql.models.limits import MAX_FEATURES
from ubp_sql.models.loaded import NETWORK, PREPARED, PREPARED_NETWORK, Loaded, open_model
from ubp_sql.models.preparation import Program, read_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]

LAYOUT = 1
_HEADER = Struct("<8sHHIIIIIHHIQQQ")
MAX_DEPTH = 2  # an ONNX graph that prepares its features may have features prepared for it


def compile_prepared(program: Program, model: bytes, outputs: int) -> bytes:
    """The compiled form of a compiled model behind a program."""
    magic = PREPARED_NETWORK if model.startswith((NETWORK, PREPARED_NETWORK)) else PREPARED
    body = program.to_bytes()
    counts = program.features, len(program.outputs), len(program.steps), len(body), outputs
    length = _HEADER.size + len(body) + len(model) + 4
    value = _HEADER.pack(magic, LAYOUT, _HEADER.size, 0, *counts, 0, 0, 0, length, 0) + body + model
    return value + crc32(value).to_bytes(4, "little")


class PreparedModel(Loaded):
    """A model behind a program: one row in plain Python, many in NumPy, the same bits."""

    def __init__(self, compiled: bytes, depth: int = 1) -> None:
        """Raises InvalidModel (UB006), UnsupportedModel (UB007)."""
        self.program, model, outputs = _parts(compiled)
        if depth == MAX_DEPTH and model.startswith((PREPARED, PREPARED_NETWORK)):
            raise InvalidModel(f"the compiled model's features are prepared more than {MAX_DEPTH} times")
        self.model = open_model(model, depth)
        self.form, self.features, self.outputs = self.model.form, self.program.features, self.model.outputs
        if outputs != self.outputs or self.model.features != len(self.program.outputs):
            raise InvalidModel("the compiled model's preparation and model do not fit together")
        self.size = 4 * self.features
        self.nbytes = len(compiled) + self.program.nbytes + self.model.nbytes

    def score_packed(self, packed: bytes, population: int = -1) -> float | None:
        row = array("f", packed)
        if population >= 0 and not row[population] >= 1.0:
            return None
        return self.model.score_packed(self.program.prepare(row).tobytes())

    def all_packed(self, packed: bytes) -> list[float]:
        return self.model.all_packed(self.program.prepare(array("f", packed)).tobytes())

    def score_batch(self, rows: F32, between_chunks: Callable[[], object] | None = None) -> F64:
        from ubp_sql.models.preparation_batch import prepare_rows

        return self.model.score_batch(prepare_rows(self.program, rows, between_chunks), between_chunks)


def _parts(data: bytes) -> tuple[Program, bytes, int]:
    """The program, the compiled model, of which only the first bytes were looked at, and its outputs."""
    if len(data) < _HEADER.size + 4:
        raise InvalidModel(f"the compiled model is cut short at {len(data)} bytes")
    magic, layout, header, flags, f, m, steps, size, k, *zeros, length, last = _HEADER.unpack_from(data)
    if layout != LAYOUT:
        raise UnsupportedModel(
            f"the compiled preparation has layout {layout}, known is {LAYOUT}", "register the model again"
        )
    if not length == len(data) >= _HEADER.size + size + 4:
        raise InvalidModel(f"the compiled model has {len(data)} bytes, its header tells of another number")
    if crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise InvalidModel("the compiled model is damaged: its checksum differs")
    if header != _HEADER.size or flags or any(zeros) or last:
        raise InvalidModel("the compiled model's header has a field of an unknown meaning")
    if not 0 < m <= MAX_FEATURES:
        raise InvalidModel(f"the compiled model's preparation counts {m} outputs")
    end = _HEADER.size + size
    model = data[end:-4]
    if magic != (PREPARED_NETWORK if model.startswith((NETWORK, PREPARED_NETWORK)) else PREPARED):
        raise InvalidModel("the compiled model's first bytes are not those of its model")
    return read_program(data[_HEADER.size : end], f, steps, m), model, k
