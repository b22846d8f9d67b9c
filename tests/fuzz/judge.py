"""Whether what a target did with a mutant is right: refused in a line that says where, or scored alike by everybody."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.fuzz.mutants import Mutant
from tests.fuzz.oracle import LIBRARIES, Oracle
from tests.fuzz.targets import NAMES, READERS, Read, Reader
from tests.models import reference_forest
from ubp_sql.errors import UbpError
from ubp_sql.kernels.dispatch import backend
from ubp_sql.kernels.forest_codes import CATEGORY
from ubp_sql.models.batch import raw_batch, trees_of
from ubp_sql.models.lightgbm_text import parse
from ubp_sql.models.linear import LinearModel
from ubp_sql.models.loaded import NETWORK, Loaded, TreeModel, open_model
from ubp_sql.models.onnx_compiled import open_network
from ubp_sql.models.preparation_batch import prepare_rows
from ubp_sql.models.preparation_blob import PreparedModel
from ubp_sql.models.walker import Walker

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

LONGEST, LONGEST_HINT = 400, 1000  # characters; a hint may list all aggregates
HUGE = 1e3  # of what is added up
_VALUES = [
    *(0.0, -0.0, 1e-36, -1e-36, 1.1e-35, 2.0**-149, 0.5, -0.5, 1.0, -1.0, 2.5, 3.0, 7.0, 31.0, 32.0, 63.75, 64.0),
    *(1000.0, 16777217.0, 2.0**31, -(2.0**31), 2.0**32, 1e20, 3.4e38, -3.4e38, np.nan, np.nan, np.inf, -np.inf),
]


class Wrong(Exception):
    """A target did what it must not; the text says what."""


class Verdict(NamedTuple):
    """What came of a mutant.

    accepted  not refused
    oracle    'equal', 'died', 'refused'; 'possible' where it was not asked, 'impossible' where there is none
    """

    accepted: bool
    oracle: str = "impossible"


def judge(mutant: Mutant, seed: int, oracle: Oracle | None) -> Verdict:
    """Raises Wrong, and whatever else the target raises that it must not."""
    reader = READERS[mutant.target]
    try:
        read = reader.read(mutant.data)
    except UbpError as error:
        check_refusal(reader, error)
        return Verdict(accepted=False)
    if read is None:
        return Verdict(accepted=True)
    if read.compiled.startswith(NETWORK):
        return _judge_network(mutant.data, read, seed, oracle)
    model = open_model(read.compiled)
    x = rows_for(model, seed)
    scores = check_scores(model, x)
    if read.format == "lightgbm":
        x = _check_reference(mutant.data, x, scores)
    if oracle is None or read.format not in LIBRARIES:
        return Verdict(True, "possible" if read.format in LIBRARIES else "impossible")
    said, found = oracle.ask(read.format, mutant.data, x)
    if found is not None:
        check_alike(read.format, model, x, found, scores)
    return Verdict(True, said)


def _judge_network(data: bytes, read: Read, seed: int, oracle: Oracle | None) -> Verdict:
    """A graph that was let in does not kill ONNX Runtime, and scores like the file. Raises Wrong."""
    network, _ = open_network(read.compiled)
    if oracle is None:
        return Verdict(True, "possible")
    x = _chosen(np.array(_VALUES, np.float32), network.features, seed)
    said, scores = oracle.ask("network", read.compiled, x)
    if said == "died":
        raise Wrong("ONNX Runtime died of a graph that was let in")
    if scores is not None and read.format:
        # Some graphs take a single row, or make something else of two: they are run row by row.
        parts = np.split(x, len(x)) if network.one_by_one else [x]
        answers = [oracle.ask("onnx", data, part)[1] for part in parts]
        found = np.concatenate([part for part in answers if part is not None] or [np.empty((0, 1))])
        if len(found) == len(x):
            found = _ours(found, scores)
            same = found.shape == scores.shape
            if not same or not np.allclose(found, scores, rtol=1e-4, atol=1e-5, equal_nan=True):
                raise Wrong(f"the file and what was made of it differ: {found.tolist()} and {scores.tolist()}")
    return Verdict(True, said)


def _ours(found: F64, scores: F64) -> F64:
    """The columns that we give: of a classifier of two classes the second one."""
    return found[:, 1:] if found.shape[1] == 2 and scores.shape[1] == 1 else found


def check_refusal(reader: Reader, error: UbpError) -> None:
    """The error is one of those that its target may raise, in one line that names the place."""
    if type(error) not in reader.errors:
        raise Wrong(f"refused by {type(error).__name__}: {error.message}")
    for line, longest in ((error.message, LONGEST), (error.hint or "-", LONGEST_HINT)):
        if not line.isprintable() or not 0 < len(line) <= longest:
            raise Wrong(f"refused by a line that is long or not printable: {line[:LONGEST]!a}")
    if not reader.place.match(error.message):
        raise Wrong(f"refused without a place: {error.message}")


def rows_for(model: Loaded, seed: int) -> F32:
    """Rows of awkward values and of the model's own thresholds, one step below and one above."""
    pool = np.array(_VALUES, np.float32)
    if isinstance(model, TreeModel) and len(model.blob.threshold):
        near = np.array(model.blob.threshold[:200], np.float32)
        with np.errstate(over="ignore"):
            beside = [np.nextafter(near, np.float32(end)) for end in (-np.inf, np.inf)]
        pool = np.concatenate([pool, near, *beside])
    return _chosen(pool, model.features, seed)


def _chosen(pool: F32, features: int, seed: int) -> F32:
    rng = np.random.default_rng(seed)
    x = rng.choice(pool, size=(6, features))
    return np.where(rng.random(x.shape) < 0.3, rng.normal(size=x.shape), x).astype(np.float32)


def check_scores(model: Loaded, x: F32) -> F64:
    """(r, k) the scores, the same bits by the batch kernels, the single-row scorer and plain Python. Raises Wrong."""
    scores = model.score_batch(x)
    if scores.shape != (len(x), model.outputs):
        raise Wrong(f"a batch of {x.shape} gave scores of {scores.shape}")
    for row, expected in zip(x, scores.tolist(), strict=True):
        packed = row.tobytes()
        _same("one row and batch", model.all_packed(packed), expected)
        if model.outputs == 1:
            single = model.score_packed(packed)
            _same("score and batch", [np.nan if single is None else single], expected)
    if isinstance(model, TreeModel):
        if np.isnan(scores).any():
            raise Wrong("a forest's score is NaN")
        walk = Walker(model.blob)
        for row, expected in zip(x.tolist(), scores.tolist(), strict=True):
            _same("plain Python and batch", walk.scores(row), expected)
        sums = raw_batch(model.blob, x)
        traversed = backend().forest_raw(x, trees_of(model.blob), model.outputs)
        _same("traversal and bit vectors", traversed.ravel().tolist(), sums.ravel().tolist())
    return scores


def _same(what: str, found: Sequence[float], expected: Sequence[float]) -> None:
    """Equal to the bit, but that any NaN is as good as another."""
    if _bits(found) != _bits(expected):
        raise Wrong(f"{what} differ: {found} and {expected}")


def _bits(values: Sequence[float]) -> list[bytes]:
    return [struct.pack("<d", v) if v == v else b"NaN" for v in values]


def _check_reference(data: bytes, x: F32, scores: F64) -> F32:
    """Our scores are the plain reference's; gives the rows in the order of the text's own features. Raises Wrong."""
    forest = parse(data)
    theirs = np.ascontiguousarray(x[:, [NAMES.index(name) for name in forest.feature_names]])
    # LightGBM's own reading of the objective's parameter is not float()'s.
    if forest.link_parameter in (0.5, 1.0, 2.0):
        text = data.decode()
        for row, expected in zip(theirs[:2].tolist(), scores.tolist(), strict=False):
            _same("plain reference and batch", reference_forest.scores(text, row), expected)
    return theirs


def check_alike(format: str, model: Loaded, x: F32, found: F64, scores: F64) -> None:
    """The library's scores are ours: to the bit for LightGBM's, else but for what float32 loses. Raises Wrong."""
    found = _ours(found, scores)
    if found.shape != scores.shape:
        raise Wrong(f"{format} gives scores of {found.shape}, ours are {scores.shape}")
    if format == "lightgbm":
        _same("LightGBM and batch", found.ravel().tolist(), scores.ravel().tolist())
        return
    # A sum of terms far larger than itself keeps no digits in float32: such a row says nothing about the reader.
    size = _sizes(model, x)
    if format == "xgboost" and isinstance(model, TreeModel):
        # Between -1 and 0 we read category 0, as LightGBM does, where XGBoost reads none.
        columns = sorted(
            {f for f, flags in zip(model.blob.feature, model.blob.node_flags, strict=True) if flags & CATEGORY}
        )
        size[((x[:, columns] > -1) & (x[:, columns] < 0)).any(axis=1)] = np.inf
    near = np.isclose(found, scores, rtol=1e-4, atol=1e-5, equal_nan=True).all(axis=1)
    if not (near | (size > HUGE)).all():
        raise Wrong(f"{format} and batch differ: {found.tolist()} and {scores.tolist()} of {x.tolist()}")


def _sizes(model: Loaded, x: F32) -> F64:
    """(r,) the largest of what is added up for each row."""
    if isinstance(model, PreparedModel):
        return _sizes(model.model, prepare_rows(model.program, x))
    if isinstance(model, TreeModel):
        return np.full(len(x), max(map(abs, model.blob.leaf_value), default=0.0))
    if isinstance(model, LinearModel):
        with np.errstate(over="ignore", invalid="ignore"):
            products = np.abs(x).astype(np.float64) * max(map(abs, (*model.linear.weight, *model.linear.bias)))
        return np.asarray(np.where(np.isfinite(products), products, np.inf).max(axis=1), np.float64)
    return np.zeros(len(x))
