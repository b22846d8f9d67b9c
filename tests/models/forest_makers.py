"""Models for the tests: trained by LightGBM, or written by hand with the thresholds that training seldom makes."""

from functools import cache
from random import Random
from typing import Any

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

AS_CATEGORIES = [
    *range(0, 100, 7),
    31,
    32,
    33,
    63,
    64,
    200,
    1000,
    -0.5,
    -1.5,
    31.75,
    2.0**31,
    -(2.0**31),
    2.0**32,
    1e20,
]
# Column 2 holds numbers of categories, so that every split on it is one of sets.
CATEGORIES: dict[str, object] = {
    **{"categorical_feature": [2], "min_data_per_group": 1},
    **{"cat_smooth": 0.1, "cat_l2": 0.1, "max_cat_to_onehot": 1},
}
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
    **{
        f"{name}_sqrt": {"objective": name, "reg_sqrt": True}
        for name in ("regression", "regression_l1", "fair", "quantile", "mape")
    },
    "huber_sqrt": {"objective": "huber", "reg_sqrt": True},  # which LightGBM takes back
    "poisson": {"objective": "poisson"},
    "gamma": {"objective": "gamma"},
    "tweedie": {"objective": "tweedie", "tweedie_variance_power": 1.3},
    "poisson_rf": {"objective": "poisson", "boosting": "rf", "bagging_fraction": 0.6, "bagging_freq": 1},
    "cross_entropy_lambda": {"objective": "cross_entropy_lambda"},
    "lambdarank": {"objective": "lambdarank"},
    "rank_xendcg": {"objective": "rank_xendcg"},
    "lambdarank_dart": {"objective": "lambdarank", "boosting": "dart", "drop_rate": 0.4},
    "multiclass": {"objective": "multiclass", "num_class": 4},
    "multiclass_dart": {"objective": "multiclass", "num_class": 3, "boosting": "dart", "drop_rate": 0.4},
    "multiclass_rf": {
        **{"objective": "multiclass", "num_class": 3},
        **{"boosting": "rf", "bagging_fraction": 0.6, "bagging_freq": 1},
    },
    "multiclass_goss": {"objective": "multiclass", "num_class": 3, "data_sample_strategy": "goss"},
    "multiclass_empty_class": {"objective": "multiclass", "num_class": 6},
    "multiclassova": {"objective": "multiclassova", "num_class": 4, "sigmoid": 0.7},
    "multiclassova_rf": {
        **{"objective": "multiclassova", "num_class": 3},
        **{"boosting": "rf", "bagging_fraction": 0.6, "bagging_freq": 1},
    },
    "zero_missing": {"objective": "binary", "zero_as_missing": True},
    "zero_missing_regression": {"objective": "regression", "zero_as_missing": True, "num_leaves": 40},
    "zero_missing_multiclass": {"objective": "multiclass", "num_class": 3, "zero_as_missing": True},
    "no_missing_poisson": {"objective": "poisson", "use_missing": False},
    "categories": {"objective": "binary", **CATEGORIES},
    "categories_one_hot": {"objective": "regression", **CATEGORIES, "max_cat_to_onehot": 300},
    "categories_zero_missing": {"objective": "regression", **CATEGORIES, "zero_as_missing": True},
    "categories_no_missing": {"objective": "binary", **CATEGORIES, "use_missing": False},
    "categories_multiclass": {"objective": "multiclass", "num_class": 3, **CATEGORIES},
    "categories_rf": {
        **{"objective": "binary", **CATEGORIES},
        **{"boosting": "rf", "bagging_fraction": 0.6, "bagging_freq": 1},
    },
    "extra_trees": {"objective": "binary", "extra_trees": True, "path_smooth": 2.0},
    "no_average_start": {"objective": "poisson", "boost_from_average": False, "lambda_l1": 0.3},
    "quantized": {"objective": "regression", "use_quantized_grad": True, "num_grad_quant_bins": 4},
    "renamed_bins": {"objective": "binary", "max_bin": 7, "linear_tree": False, "feature_pre_filter": False},
}


def training_matrix(rows: int = 600, features: int = 6, seed: int = 7) -> F32:
    """Rows with gaps in columns 0 and 1, zeros, ties, tiny and huge values; column 2 has few whole numbers."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)).astype(np.float32)
    x[:, 2] = rng.integers(0, 5, rows)
    x[:, 3] = np.where(rng.random(rows) < 0.7, 0, x[:, 3])
    x[:, 4] *= np.float32(1e30)
    x[:, 5] *= np.float32(1e-34)
    x[:, :2][rng.random((rows, 2)) < 0.2] = np.nan
    return x


@cache
def trained(name: str, seed: int = 7) -> bytes:
    """The text of a small model trained with TRAINED[name] on a matrix of that seed."""
    parameters = TRAINED[name]
    x = training_matrix(seed=seed)
    rng = np.random.default_rng(seed + 1)
    wish = np.nan_to_num(x[:, 0]) + (x[:, 2] > 2) + 0.5 * np.isnan(x[:, 1]) + np.sign(x[:, 4]) + np.sign(x[:, 5])
    if "categorical_feature" in parameters:
        x[:, 2] = rng.choice([0, 1, 2, 5, 31, 32, 33, 63, 64, 200, 1000], len(x))
        x[:, 2][rng.random(len(x)) < 0.1] = np.nan
        wish += np.where(np.isin(x[:, 2], [1, 31, 64, 1000]), 3.0, 0.0)
    noisy = wish + rng.normal(size=len(x))
    y = {
        **dict.fromkeys(("binary", "cross_entropy", "cross_entropy_lambda"), noisy > 0),
        **dict.fromkeys(("poisson", "tweedie", "lambdarank", "rank_xendcg"), np.clip(np.round(noisy), 0, 4)),
        **dict.fromkeys(("multiclass", "multiclassova"), np.clip(np.round(noisy), 0, 2)),
        "gamma": np.exp(noisy),
    }.get(str(parameters["objective"]), noisy)
    settings = {"num_leaves": 9, "min_data_in_leaf": 5, "seed": seed, **parameters}
    return train(x, y, settings, group=[20] * (len(x) // 20) if "rank" in str(parameters["objective"]) else None)


def train(
    x: F32,
    y: NDArray[np.generic],
    parameters: dict[str, object],
    trees: int = 12,
    group: list[int] | None = None,
) -> bytes:
    fixed = {"verbosity": -1, "num_threads": 1, "seed": 3, "deterministic": True}
    settings: dict[str, Any] = {**fixed, **parameters}
    data = lightgbm.Dataset(x, y, group=group, categorical_feature=settings.pop("categorical_feature", "auto"))
    booster = lightgbm.train(settings, data, trees)
    return str(booster.model_to_string()).encode()


def written(
    trees: list[dict[str, list[object]]], features: int, objective: str, average: bool = False, outputs: int = 1
) -> bytes:
    """A well-formed LightGBM text model of the given trees (their fields as in the text)."""
    blocks = []
    for k, tree in enumerate(trees):
        lines = [f"Tree={k}", f"num_leaves={len(tree['leaf_value'])}"]
        lines += [f"num_cat={max(0, len(tree.get('cat_boundaries', [])) - 1)}"]
        lines += [f"{key}={' '.join(map(str, values))}" for key, values in tree.items()]
        blocks.append("\n".join([*lines, "is_linear=0", "shrinkage=1", "", "", ""]))
    header = [
        *("tree", "version=v4", f"num_class={outputs}", f"num_tree_per_iteration={outputs}", "label_index=0"),
        *(f"max_feature_idx={features - 1}", f"objective={objective}", *(["average_output"] if average else [])),
        f"feature_names={' '.join(f'f{j}' for j in range(features))}",
        f"feature_infos={' '.join(['[-1:1]'] * features)}",
        f"tree_sizes={' '.join(str(len(block)) for block in blocks)}",
    ]
    tail = "end of trees\n\nfeature_importances:\n\nparameters:\n[boosting: gbdt]\n\nend of parameters\n"
    return ("\n".join(header) + "\n\n" + "".join(blocks) + tail).encode()


OBJECTIVES = {
    **dict.fromkeys(("regression", "regression sqrt", "quantile", "lambdarank", "cross_entropy"), 1),
    **dict.fromkeys(("binary sigmoid:1", "poisson", "cross_entropy_lambda"), 1),
    **{"multiclass num_class:3": 3, "multiclassova num_class:2 sigmoid:1": 2},
}


def random_model(random: Random, features: int, iterations: int, leaves: int) -> bytes:
    """A model of any objective, of trees of random shape, with splits of every kind."""
    objective = random.choice(list(OBJECTIVES))
    outputs = OBJECTIVES[objective]
    trees = [random_tree(random, features, random.randint(1, leaves)) for _ in range(iterations * outputs)]
    return written([with_categories(random, t) for t in trees], features, objective, random.random() < 0.3, outputs)


def random_tree(random: Random, features: int, leaves: int, chain: bool = False) -> dict[str, list[object]]:
    """A tree of random shape, or one long branch, with awkward thresholds and every missing type."""
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
        "decision_type": [random.choice([0, 2, 4, 6, 8, 10]) for _ in left],
        "left_child": list(left),
        "right_child": list(right),
        "leaf_value": [format(random.gauss(0, 1), ".17g") for _ in range(leaves)],
    }


def with_categories(random: Random, tree: dict[str, list[object]]) -> dict[str, list[object]]:
    """The tree with some of its splits on sets of categories, of none to three words."""
    chosen = [i for i in range(len(tree["threshold"])) if random.random() < 0.3]
    if not chosen:
        return tree
    sets = [[random.getrandbits(32) for _ in range(random.randint(0, 3))] for _ in chosen]
    boundaries: list[object] = [sum(map(len, sets[:k])) for k in range(len(sets) + 1)]
    threshold, decision = list(tree["threshold"]), list(tree["decision_type"])
    for k, i in enumerate(random.sample(chosen, len(chosen))):
        threshold[i], decision[i] = k, random.choice([1, 3, 5, 9])
    cut: dict[str, list[object]] = {
        "cat_boundaries": boundaries,
        "cat_threshold": [word for words in sets for word in words],
    }
    return {**tree, "threshold": threshold, "decision_type": decision, **cut}


def rows_for(text: bytes, count: int, seed: int) -> F32:
    """Rows of awkward values, of categories known and unknown, and of the model's own thresholds as float32, one step
    below and one above.
    """
    rng = np.random.default_rng(seed)
    blob = blob_of(text)
    at = np.array([*AWKWARD, *AS_CATEGORIES, *blob.threshold.tolist(), np.nan, np.inf, -np.inf])
    with np.errstate(over="ignore"):
        near = at.astype(np.float32)
        near = np.concatenate([near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))])
    x = rng.choice(near, size=(count, blob.n_features))
    return np.where(rng.random(x.shape) < 0.3, rng.normal(size=x.shape), x).astype(np.float32)


def blob_of(text: bytes) -> Blob:
    return open_blob(compile_forest(parse(text)))


def lightgbm_scores(text: bytes, x: F32, raw: bool = False) -> NDArray[np.float64]:
    """(r, k) by the oracle, for well-formed text only: LightGBM crashes on other."""
    booster = lightgbm.Booster(model_str=text.decode())
    return np.asarray(booster.predict(x, raw_score=raw, num_threads=1), np.float64).reshape(len(x), -1)
