"""One model through every scorer that we have."""

import struct
from array import array
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ubp_sql.errors import InvalidModel, UnsupportedModel
from ubp_sql.install import native as build
from ubp_sql.models.loaded import TreeModel, open_model
from ubp_sql.models.walker import Walker

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def by_all(compiled: bytes, x: F32) -> F64:
    """(r, k) scores of rows by the batch; the row scorers, native and plain Python, are held to the same bits."""
    build.build()
    loaded = open_model(compiled)
    scores = loaded.score_batch(x)
    rows = [row.tobytes() for row in np.ascontiguousarray(x)]
    same_bits(np.array([loaded.all_packed(row) for row in rows]), scores)
    if isinstance(loaded, TreeModel):
        assert loaded.native is not None
        walker = Walker(loaded.blob)
        same_bits(np.array([walker.scores(array("f", row)) for row in rows]), scores)
    if loaded.outputs == 1:
        packed = [loaded.score_packed(row) for row in rows]
        same_bits(np.array([np.nan if value is None else value for value in packed]), scores[:, 0])
    return scores


def same_bits(found: F64, expected: F64) -> None:
    """Equal to the bit; NaN is NaN."""
    assert found.shape == expected.shape
    unequal = (found.view(np.uint64) != expected.view(np.uint64)) & ~(np.isnan(found) & np.isnan(expected))
    assert not unequal.any(), (found[unequal][:3], expected[unequal][:3])


def refused_or_scored(sound: bytes, at: int, value: int, end: int) -> None:
    """A compiled value with one byte changed under a right sum, and one that ends early: refused, or they score."""
    data = bytearray(sound[:-4])
    data[at] = value
    for made in (bytes(data) + struct.pack("<I", crc32(bytes(data))), sound[:end]):
        try:
            model = open_model(made)
        except (InvalidModel, UnsupportedModel):
            continue
        model.all_packed(bytes(model.size))
