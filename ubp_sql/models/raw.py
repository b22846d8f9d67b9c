"""The raw score of any model of one output: what contributions of features add up to, and what is made of it.

    trees, linear          the sum before the link
    behind a preparation   that of the model there
    network                the logit of a probability (out of a Sigmoid, or the second of two classes), else the output

The probability of a network is a float32, which may be 0 or 1: it is taken as EDGE away from there, a logit of 17.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ubp_sql.errors import UnsupportedModel
from ubp_sql.models.batch import raw_batch as forest_raw
from ubp_sql.models.linear import LinearModel
from ubp_sql.models.loaded import Loaded, TreeModel
from ubp_sql.models.preparation_batch import prepare_rows
from ubp_sql.models.preparation_blob import PreparedModel
from ubp_sql.models.walker import link_totals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]
    Pause = Callable[[], object]

EDGE = 2.0**-25


def raw_batch(loaded: Loaded, rows: F32, between_chunks: Pause | None = None) -> F64:
    """(n,) raw scores of rows (n, features); NaN where the model gives no number.

    Raises UnsupportedModel (UB007) for a model of several outputs.
    """
    if loaded.outputs > 1:
        raise UnsupportedModel(
            f"the model has {loaded.outputs} outputs: reasons are of one score", "train a model a class"
        )
    if isinstance(loaded, PreparedModel):
        return raw_batch(loaded.model, prepare_rows(loaded.program, rows, between_chunks), between_chunks)
    if isinstance(loaded, TreeModel):
        sums: F64 = forest_raw(loaded.blob, rows, between_chunks)[:, 0] / loaded.blob.divisor
        return sums
    if isinstance(loaded, LinearModel):
        return loaded.raw_batch(rows, between_chunks)[:, 0]
    scores: F64 = loaded.score_batch(rows, between_chunks)[:, 0]
    if not _is_probability(loaded):
        return scores
    inside = np.clip(scores, EDGE, 1.0 - EDGE)
    logits: F64 = np.log(inside / (1.0 - inside))
    return logits


def score_of(loaded: Loaded) -> Callable[[float], float]:
    """What turns a raw score into the model's."""
    if isinstance(loaded, PreparedModel):
        return score_of(loaded.model)
    if isinstance(loaded, TreeModel | LinearModel):
        form = loaded.blob if isinstance(loaded, TreeModel) else loaded.linear
        return lambda raw: link_totals([raw], form.link, form.link_parameter)[0]
    return _sigmoid if _is_probability(loaded) else lambda raw: raw


def work_of(loaded: Loaded) -> int:
    """What a row costs, about, in multiplications of a network or of a preparation; 0 of all else, which costs 1 µs."""
    from ubp_sql.models.onnx_runtime import OnnxModel

    if isinstance(loaded, PreparedModel):
        return loaded.program.work + work_of(loaded.model)
    return loaded.network.sizes(1).work if isinstance(loaded, OnnxModel) else 0


def _is_probability(loaded: Loaded) -> bool:
    """Whether a network's score is a probability, as far as its graph tells."""
    from ubp_sql.models.onnx_runtime import OnnxModel

    if not isinstance(loaded, OnnxModel):
        return False
    graph = loaded.network.graph
    (made,) = graph.outputs
    return loaded.network.second or any(made.name in node.outputs and node.op_type == "Sigmoid" for node in graph.nodes)


def _sigmoid(raw: float) -> float:
    return 1.0 / (1.0 + math.exp(-raw)) if raw > 0 else math.exp(raw) / (1.0 + math.exp(raw))
