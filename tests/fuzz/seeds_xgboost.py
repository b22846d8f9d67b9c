"""XGBoost documents made by hand, of every booster and with splits that training seldom makes, and trained ones."""

import json
from random import Random
from typing import Any

from tests.fuzz.edits_ubj import ubj
from tests.fuzz.targets import NAMES

DELETED = 2**31 - 1
_OBJECTIVES = ("binary:logistic", "reg:squarederror", "count:poisson", "rank:ndcg", "binary:logitraw", "multi:softprob")


def tree(random: Random, leaves: int, number: int) -> dict[str, Any]:
    """A tree of random shape, some of its splits by category."""
    n = 2 * leaves - 1
    found: dict[str, Any] = {"left_children": [-1] * n, "right_children": [-1] * n, "parents": [DELETED] * n}
    ends, size = [0], 1
    while size < n:
        node = ends.pop(random.randrange(len(ends)))
        found["left_children"][node], found["right_children"][node] = size, size + 1
        found["parents"][size] = found["parents"][size + 1] = node
        ends += [size, size + 1]
        size += 2
    inner = [i for i in range(n) if found["left_children"][i] >= 0]
    by_category = sorted(i for i in inner if random.random() < 0.2)
    sets = [sorted(random.sample(range(70), random.randint(1, 5))) for _ in by_category]
    begins = [sum(map(len, sets[:k])) for k in range(len(sets))]
    return found | {
        "base_weights": [round(random.gauss(0, 1), 3) for _ in range(n)],
        "categories": [c for found_in in sets for c in found_in],
        "categories_nodes": by_category,
        "categories_segments": begins,
        "categories_sizes": [len(found_in) for found_in in sets],
        "default_left": [random.randrange(2) for _ in range(n)],
        "id": number,
        "loss_changes": [0.5] * n,
        "split_conditions": [random.choice([0.0, 1.0, -0.5, 1e-20, round(random.gauss(0, 1), 3)]) for _ in range(n)],
        "split_indices": [2 if i in by_category else random.randrange(len(NAMES)) for i in range(n)],
        "split_type": [int(i in by_category) for i in range(n)],
        "sum_hessian": [1.0] * n,
        "tree_param": {"num_deleted": "0", "num_feature": "5", "num_nodes": str(n), "size_leaf_vector": "1"},
    }


def document(random: Random, booster: str, objective: str, trees: int, leaves: int) -> dict[str, Any]:
    """The document of a whole model, XGBoost 3's fields."""
    outputs = 3 if objective.startswith("multi") else 1
    score = "5E-1" if outputs == 1 or booster == "gblinear" else "[1E-1,2E-1,7E-1]"
    if booster == "gblinear":
        weights = [round(random.gauss(0, 1), 3) for _ in range((len(NAMES) + 1) * outputs)]
        body: dict[str, Any] = {"model": {"weights": weights}, "name": "gblinear"}
    else:
        count = trees * outputs
        model = {
            "cats": {"enc": [], "feature_segments": [], "sorted_idx": []},
            "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": str(count)},
            "iteration_indptr": list(range(0, count + 1, outputs)),
            "tree_info": [k % outputs for k in range(count)],
            "trees": [tree(random, random.randint(1, leaves), k) for k in range(count)],
        }
        body = {"model": model, "name": "gbtree"}
        if booster == "dart":
            body = {"gbtree": body, "name": "dart", "weight_drop": [round(random.random(), 3) for _ in range(count)]}
    param = {"base_score": score, "boost_from_average": "1", "num_class": str(outputs if outputs > 1 else 0)}
    return {
        "learner": {
            "attributes": {},
            "feature_names": list(NAMES) if random.random() < 0.5 else [],
            "feature_types": [],
            "gradient_booster": body,
            "learner_model_param": {**param, "num_feature": "5", "num_target": "1"},
            "objective": _objective(objective, outputs),
        },
        "version": [3, 2, 0],
    }


def _objective(name: str, outputs: int) -> dict[str, Any]:
    options: dict[str, Any] = {"reg_loss_param": {"scale_pos_weight": "1"}}
    if name == "count:poisson":
        options = {"poisson_regression_param": {"max_delta_step": "7E-1"}}
    elif name.startswith("multi"):
        options = {"softmax_multiclass_param": {"num_class": str(outputs)}}
    elif name.startswith("rank"):
        options = {"lambdarank_param": {"lambdarank_num_pair_per_sample": "1"}}
    return {"name": name, **options}


def documents() -> list[dict[str, Any]]:
    random = Random(21)
    made = [document(random, "gbtree", objective, random.randint(1, 4), 7) for objective in _OBJECTIVES]
    made += [document(random, "dart", "binary:logistic", 3, 4), document(random, "dart", "multi:softprob", 2, 4)]
    made += [document(random, "gblinear", objective, 0, 0) for objective in ("binary:logistic", "multi:softprob")]
    return made


def as_json() -> list[bytes]:
    return [json.dumps(found, separators=(",", ":")).encode() for found in documents()]


def as_ubj() -> list[bytes]:
    random = Random(22)
    return [ubj(random, found) for found in documents()]
