"""Small XGBoost models of every kind that is taken, trained once a session, and rows that are awkward for them."""

import json
from functools import cache
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

F32 = NDArray[np.float32]

FEATURES = 5
NAMES = tuple(f"n{i}" for i in range(FEATURES))
CATEGORY = 0  # the feature that holds categories

# name: (objective, settings, boosting rounds)
TRAINED: dict[str, tuple[str, dict[str, Any], int]] = {
    **{
        name: (name, {}, 12)
        for name in (
            *("reg:squarederror", "reg:squaredlogerror", "reg:logistic", "reg:pseudohubererror", "reg:absoluteerror"),
            *("reg:gamma", "reg:tweedie", "binary:logistic", "binary:logitraw", "count:poisson"),
            *("survival:cox", "survival:aft", "rank:pairwise", "rank:ndcg", "rank:map", "multi:softprob"),
            "multi:softmax",
        )
    },
    "quantiles": ("reg:quantileerror", {"quantile_alpha": [0.1, 0.5, 0.9]}, 6),
    "base score": ("reg:squarederror", {"base_score": 1000.0}, 12),
    "dart": ("binary:logistic", {"booster": "dart", "rate_drop": 0.4}, 12),
    "forest": ("binary:logistic", {"num_parallel_tree": 3, "subsample": 0.5}, 4),
    "forest of classes": ("multi:softprob", {"num_parallel_tree": 2, "subsample": 0.5}, 3),
    "one-hot categories": ("binary:logistic", {"max_cat_to_onehot": 100}, 12),
    "pruned": ("binary:logistic", {"gamma": 4.0, "tree_method": "approx"}, 12),
    "one leaf": ("binary:logistic", {"gamma": 1e9}, 2),
    "linear": ("binary:logistic", {"booster": "gblinear", "eta": 0.1}, 5),
    "linear counts": ("count:poisson", {"booster": "gblinear", "eta": 0.05}, 3),
    "linear classes": ("multi:softprob", {"booster": "gblinear", "eta": 0.1, "base_score": 0.5}, 3),
}


def types(name: str) -> list[str]:
    kind = "q" if TRAINED[name][1].get("booster") == "gblinear" else "c"
    return [kind if i == CATEGORY else "q" for i in range(FEATURES)]


@cache
def trained(name: str) -> xgboost.Booster:
    objective, settings, rounds = TRAINED[name]
    rng = np.random.default_rng(7)
    n = 800
    x = rng.normal(size=(n, FEATURES)).astype(np.float32)
    x[:, CATEGORY] = rng.integers(0, 40, n)
    x[rng.random(x.shape) < 0.15] = np.nan
    seen = np.nan_to_num(x)
    target = seen[:, 1] + seen[:, 2] * seen[:, 3] + np.sin(seen[:, CATEGORY]) + rng.normal(size=n)
    data = xgboost.DMatrix(x, feature_names=list(NAMES), feature_types=types(name))
    chosen = {"objective": objective, "nthread": 1, "seed": 1, "eta": 0.3, **settings}
    if chosen.get("booster") != "gblinear":
        chosen["max_depth"] = 4
    if objective.startswith("multi:"):
        chosen["num_class"] = 3
        target = np.digitize(target, [-1, 1]).astype(np.float64)
    elif objective.startswith(("binary:", "rank:")) or objective == "reg:logistic":
        target = (target > 0).astype(np.float64)
    elif objective in ("reg:gamma", "reg:tweedie", "reg:squaredlogerror", "count:poisson", "survival:cox"):
        target = np.exp(np.clip(target, -2, 2))
    if objective == "survival:aft":
        data.set_float_info("label_lower_bound", np.exp(target))
        data.set_float_info("label_upper_bound", np.exp(target) + 1)
    data.set_label(target)
    if objective.startswith("rank:"):
        data.set_group([20] * (n // 20))
    return xgboost.train(chosen, data, rounds)


def saved(name: str, kind: str = "json") -> bytes:
    return bytes(trained(name).save_raw(kind))


def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(saved(name))
    return found


def by_xgboost(name: str, x: F32) -> NDArray[np.float64]:
    """(r, k) XGBoost's own scores; of multi:softmax the probabilities, which it keeps to itself."""
    booster = trained(name)
    if TRAINED[name][0] == "multi:softmax":
        booster = xgboost.Booster(model_file=bytearray(saved(name).replace(b"multi:softmax", b"multi:softprob")))
    data = xgboost.DMatrix(x, feature_names=list(NAMES), feature_types=types(name))
    return np.asarray(booster.predict(data), np.float64).reshape(len(x), -1)


def rows_for(name: str, count: int, seed: int, endless: bool = False) -> F32:
    """Rows of thresholds, their neighbours among float32, missing values, categories known and unknown.

    endless: infinite values too, which XGBoost's own matrix refuses.
    """
    rng = np.random.default_rng(seed)
    model = document(name)["learner"]["gradient_booster"]
    trees = model.get("gbtree", model)["model"].get("trees", [])
    at = np.array([*(t for tree in trees for t in tree["split_conditions"]), 0.0, -0.0, 1e-38, 3e38, -3e38], np.float32)
    at = at[np.isfinite(at)]
    near = np.concatenate([at, np.nextafter(at, np.float32(-np.inf)), np.nextafter(at, np.float32(np.inf))])
    near = near[np.isfinite(near)]
    x = rng.choice(near, size=(count, FEATURES))
    x = np.where(rng.random(x.shape) < 0.4, rng.normal(size=x.shape), x).astype(np.float32)
    x[:, CATEGORY] = rng.choice([*range(45), 1.5, -1, -7, 500, 2**24, 3e9], size=count)
    x[rng.random(x.shape) < 0.15] = np.nan
    if endless:
        x[rng.random(x.shape) < 0.05] = np.inf
        x[rng.random(x.shape) < 0.05] = -np.inf
    return x
