"""Models for the tests: trained by LightGBM, or written by hand with the thresholds that training seldom makes."""

from functools import cache
from random import Random
from typing import Literal

import lightgbm
import numpy as np
from numpy.typing import NDArray

from ubp_sql.models.blob import Blob, compile_forest, open_blob
from ubp_sql.models.lightgbm_text import parse

F32 = NDArray[np.float32]

TINY = 1.0000000180025095e-35  # LightGBM's kZeroThreshold: float32(1e-35)
LARGEST = float(np.finfo(np.float32).max)
AWKWARD = [
    *(0.0, -0.0, TINY, -TINY, 1e-36, -1e-36, 9.99e-36, 1.1e-35, -1.1e-35, 2.0**-149, -(2.0**-149), 1e-320),
    *(0.1, -0.1, 1 / 3, 16777217.0, LARGEST, -LARGEST, 3.5e38, -3.5e38, 1e300, -1e300, 5e-324, 1.0, -1.0),
]

# name: parameters of training
TRAINED: dict[str, dict[str, object]] = {
    "binary": {"objective": "binary"},
    "binary_sigmoid": {"objective": "binary", "sigmoid": 0.7},
    "binary_bagging": {"objective": "binary", "bagging_fraction": 0.6, "bagging_freq": 1, "feature_fraction": 0.5},
    "binary_goss": {"objective": "binary", "data_sample_strategy": "goss"},
    "binary_dart": {"objective": "binary", "boosting": "dart", "drop_rate": 0.4},
    "binary_rf": {"objective": "binary", "boosting": "rf", "bagging_fraction": 0.6, "bagging_freq": 1},
    "binary_no_missing": {"objective": "binary", "use_missing": False},
    "binary_one_leaf": {"objective": "binary", "min_gain_to_split": 1e9},
    "cross_entropy": {"objective": "cross_entropy"},
    "monotone": {"objective": "binary", "monotone_constraints": [1, -1, 0, 0, 0, 0]},
    "regression": {"objective": "regression"},
    "regression_rf": {"objective": "regression", "boosting": "rf", "bagging_fraction": 0.6, "bagging_freq": 1},
    "regression_deep": {"objective": "regression", "num_leaves": 63, "min_data_in_leaf": 1},
    "regression_l1": {"objective": "regression_l1"},
    "huber": {"objective": "huber"},
    "fair": {"objective": "fair"},
    "quantile": {"objective": "quantile", "alpha": 0.3},
    "mape": {"objective": "mape"},
}


def training_matrix(rows: int = 600, features: int = 6) -> F32:
    """Rows with gaps in columns 0 and 1, zeros, ties and tiny and huge values."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(rows, features)).astype(np.float32)
    x[:, 2] = rng.integers(0, 5, rows)
    x[:, 3] = np.where(rng.random(rows) < 0.7, 0, x[:, 3])
    x[:, 4] *= np.float32(1e30)
    x[:, 5] *= np.float32(1e-34)
    x[:, :2][rng.random((rows, 2)) < 0.2] = np.nan
    return x


@cache
def trained(name: str) -> bytes:
    """The text of a small model trained with TRAINED[name]."""
    x = training_matrix()
    wish = np.nan_to_num(x[:, 0]) + (x[:, 2] > 2) + 0.5 * np.isnan(x[:, 1]) + np.sign(x[:, 4]) + np.sign(x[:, 5])
    noisy = wish + np.random.default_rng(8).normal(size=len(x))
    binary = TRAINED[name]["objective"] in ("binary", "cross_entropy")
    return train(x, noisy > 0 if binary else noisy, {"num_leaves": 9, "min_data_in_leaf": 5, **TRAINED[name]})


def train(
    x: F32,
    y: NDArray[np.generic],
    parameters: dict[str, object],
    trees: int = 12,
    categories: list[int] | Literal["auto"] = "auto",
) -> bytes:
    fixed = {"verbosity": -1, "num_threads": 1, "seed": 3, "deterministic": True}
    booster = lightgbm.train({**fixed, **parameters}, lightgbm.Dataset(x, y, categorical_feature=categories), trees)
    return str(booster.model_to_string()).encode()


def written(trees: list[dict[str, list[object]]], features: int, objective: str, average: bool = False) -> bytes:
    """A well-formed LightGBM text model of the given trees (their fields as in the text)."""
    blocks = []
    for k, tree in enumerate(trees):
        lines = [f"Tree={k}", f"num_leaves={len(tree['leaf_value'])}", "num_cat=0"]
        lines += [f"{key}={' '.join(map(str, values))}" for key, values in tree.items()]
        blocks.append("\n".join([*lines, "is_linear=0", "shrinkage=1", "", "", ""]))
    header = [
        *("tree", "version=v4", "num_class=1", "num_tree_per_iteration=1", "label_index=0"),
        *(f"max_feature_idx={features - 1}", f"objective={objective}", *(["average_output"] if average else [])),
        f"feature_names={' '.join(f'f{j}' for j in range(features))}",
        f"feature_infos={' '.join(['[-1:1]'] * features)}",
        f"tree_sizes={' '.join(str(len(block)) for block in blocks)}",
    ]
    tail = "end of trees\n\nfeature_importances:\n\nparameters:\n[boosting: gbdt]\n\nend of parameters\n"
    return ("\n".join(header) + "\n\n" + "".join(blocks) + tail).encode()


def random_tree(random: Random, features: int, leaves: int, chain: bool = False) -> dict[str, list[object]]:
    """A tree of random shape, or one long branch, with awkward thresholds, missing types None and NaN."""
    left, right = [], []
    open_leaves = [0]  # leaves that may still be split; a new node takes one and adds one
    slot: dict[int, tuple[list[int], int]] = {}
    for node in range(leaves - 1):
        leaf = open_leaves[-1 if chain else random.randrange(len(open_leaves))]
        if leaf in slot:
            side, parent = slot[leaf]
            side[parent] = node
        left.append(~leaf)
        right.append(~(node + 1))
        slot[leaf], slot[node + 1] = (left, node), (right, node)
        open_leaves.append(node + 1)
    thresholds = [
        random.choice(
            [random.choice([*AWKWARD, "inf", "-inf"]), random.gauss(0, 1), float(np.float32(random.gauss(0, 1)))]
        )
        for _ in left
    ]
    return {
        "split_feature": [random.randrange(features) for _ in left],
        "threshold": [t if isinstance(t, str) else format(t, ".17g") for t in thresholds],
        "decision_type": [random.choice([0, 2, 8, 10]) for _ in left],
        "left_child": list(left),
        "right_child": list(right),
        "leaf_value": [format(random.gauss(0, 1), ".17g") for _ in range(leaves)],
    }


def rows_for(text: bytes, count: int, seed: int) -> F32:
    """Rows of awkward values and of the model's own thresholds as float32, one step below and one above."""
    rng = np.random.default_rng(seed)
    blob = blob_of(text)
    at = np.array([*AWKWARD, *blob.threshold.tolist(), np.nan, np.inf, -np.inf])
    with np.errstate(over="ignore"):
        near = at.astype(np.float32)
        near = np.concatenate([near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))])
    x = rng.choice(near, size=(count, blob.n_features))
    return np.where(rng.random(x.shape) < 0.3, rng.normal(size=x.shape), x).astype(np.float32)


def blob_of(text: bytes) -> Blob:
    return open_blob(compile_forest(parse(text)))


def lightgbm_scores(text: bytes, x: F32, raw: bool = False) -> list[float]:
    """The oracle, for well-formed text only: LightGBM crashes on other."""
    booster = lightgbm.Booster(model_str=text.decode())
    scores: list[float] = np.asarray(booster.predict(x, raw_score=raw, num_threads=1)).tolist()
    return scores
