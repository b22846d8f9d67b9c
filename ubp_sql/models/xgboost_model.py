"""XGBoost's model document (`booster.save_model('model.json')` or '.ubj', versions 1 to 3) read without XGBoost.

Layout, as far as it is read: learner has feature_names, attributes, learner_model_param (base_score, num_class,
num_feature, num_target), objective and gradient_booster, which is gbtree (trees, tree_info: the output of each tree),
dart (gbtree and weight_drop: a factor for each tree) or gblinear (weights).

XGBoost adds leaves in float32, and answers in float32; here they are added in float64, in the same order, so that the
two differ by XGBoost's rounding (docs/models.md has the measured bound).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable

from ubp_sql.errors import InvalidModel, UnsupportedModel
from ubp_sql.models.document import Table
from ubp_sql.models.forest import Forest, Link, Tree
from ubp_sql.models.json_text import read_json
from ubp_sql.models.limits import (
    MAX_CATEGORY_WORDS,
    MAX_FEATURES,
    MAX_LEAVES,
    MAX_OUTPUTS,
    MAX_TEXT_BYTES,
    MAX_TREES,
    MAX_WEIGHTS,
)
from ubp_sql.models.linear import Linear
from ubp_sql.models.parsed import Parsed
from ubp_sql.models.ubj import read_ubj
from ubp_sql.models.xgboost_trees import Room, read_tree

OBJECTIVES = {
    **dict.fromkeys(("reg:squarederror", "reg:linear", "reg:squaredlogerror", "reg:pseudohubererror"), Link.IDENTITY),
    **dict.fromkeys(("reg:absoluteerror", "reg:quantileerror", "binary:logitraw"), Link.IDENTITY),
    **dict.fromkeys(("rank:pairwise", "rank:ndcg", "rank:map"), Link.IDENTITY),
    **dict.fromkeys(("binary:logistic", "reg:logistic"), Link.SIGMOID),
    **dict.fromkeys(("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"), Link.EXP),
    **dict.fromkeys(("multi:softprob", "multi:softmax"), Link.SOFTMAX),
}
NEWEST = 3


def parse(data: bytes) -> Parsed:
    """The model in the bytes of an XGBoost file, JSON or UBJ.

    Raises InvalidModel (UB006) for bytes that are not such a file, damaged, inconsistent or over a limit, and
    UnsupportedModel (UB007) for a model that cannot be evaluated here.
    """
    if len(data) > MAX_TEXT_BYTES:
        raise InvalidModel(f"the model has {len(data)} bytes, at most {MAX_TEXT_BYTES} are read")
    text = data[1:].lstrip(b" \t\r\n")[:1] in (b'"', b"}")
    document = Table(read_json(data) if text else read_ubj(data), "")
    if "learner" not in document.found:
        raise InvalidModel(
            "the document has no 'learner': it is not of XGBoost",
            "XGBoost: booster.save_model('model.json'); LightGBM: booster.save_model('model.txt'), not dump_model()",
        )
    version = document.numbers("version", 3)
    if not 1 <= version[0] <= NEWEST:
        raise UnsupportedModel(f"version: {version[0]:g} of XGBoost's model, known are 1 to {NEWEST}")
    return _learner(document.table("learner"))


def _learner(learner: Table) -> Parsed:
    objective = learner.table("objective").text("name")
    if objective not in OBJECTIVES:
        raise UnsupportedModel(
            f"learner.objective: {objective[:40]!a} is not supported", f"supported are {', '.join(sorted(OBJECTIVES))}"
        )
    settings = learner.table("learner_model_param")
    features = settings.integer("num_feature", 1, MAX_FEATURES)
    classes, targets = (settings.integer(key, 0, MAX_OUTPUTS, 0) for key in ("num_class", "num_target"))
    outputs = max(1, classes) * max(1, targets)
    if (OBJECTIVES[objective] == Link.SOFTMAX) != (classes > 1) or outputs > MAX_OUTPUTS:
        raise InvalidModel(f"learner_model_param: {classes} classes and {targets} targets do not go with {objective}")
    names = _names(learner, features)
    base = _base(settings.text("base_score"), outputs, OBJECTIVES[objective])
    booster = learner.table("gradient_booster")
    kind = booster.text("name")
    attributes = Table(learner.get("attributes", {}), "learner.attributes")
    last = attributes.integer("best_iteration", 0, MAX_TREES, MAX_TREES)
    if kind == "gblinear":
        linear = _linear(booster.table("model"), features, outputs, base, OBJECTIVES[objective])
        return Parsed(linear, names, objective, 0)
    if kind not in ("gbtree", "dart"):
        raise UnsupportedModel(f"gradient_booster.name: {kind[:40]!a}", "known are gbtree, dart and gblinear")
    dart = kind == "dart"
    table = (booster.table("gbtree") if dart else booster).table("model")
    groups = _trees(table, booster if dart else None, features, outputs, last)
    count = sum(map(len, groups))
    longest = max(map(len, groups))
    if not longest:
        raise UnsupportedModel(f"{table.place('trees')}: there is none: the model was not trained", "train it")
    if any(base):
        for group, value in zip(groups, base, strict=True):
            group.insert(0, _constant(value))
        longest += 1
    if longest * outputs > MAX_TREES:
        raise InvalidModel(
            f"{table.place('tree_info')}: {longest} trees for each of {outputs} outputs, allowed are {MAX_TREES} in all"
        )
    for group in groups:
        group += [_constant(0.0)] * (longest - len(group))
    trees = tuple(tree for together in zip(*groups, strict=True) for tree in together)
    given = names or tuple(f"f{i}" for i in range(features))
    forest = Forest(trees, given, ("none",) * features, objective, OBJECTIVES[objective], outputs=outputs)
    forest.validate()
    return Parsed(forest, names, objective, count)


def _names(learner: Table, features: int) -> tuple[str, ...]:
    names = learner.items("feature_names")
    if not names:
        return ()
    if len(names) != features or not all(isinstance(name, str) and name for name in names):
        raise InvalidModel(f"learner.feature_names: expected {features} names, found {len(names)}")
    if len(set(names)) != features:
        raise InvalidModel("learner.feature_names: a name occurs twice")
    return tuple(names)


def _base(text: str, outputs: int, link: Link) -> list[float]:
    """What each output's sum begins with: base_score, one number or a list of them in text, before the link."""
    parts = text.removeprefix("[").removesuffix("]").split(",", outputs)
    try:
        scores = array("f", [float(part) if len(part) <= 40 else math.nan for part in parts])
    except ValueError:
        scores = array("f", [math.nan])
    if len(scores) not in (1, outputs) or not all(map(math.isfinite, scores)):
        raise InvalidModel(f"learner_model_param.base_score: {text[:40]!a} is no number for each of {outputs} outputs")
    margin: Callable[[float], float] = {Link.SIGMOID: _logit, Link.EXP: _log}.get(link, float)
    return [margin(score) for score in scores] * (outputs // len(scores))


def _logit(p: float) -> float:
    if not 0.0 < p < 1.0:
        raise InvalidModel(f"learner_model_param.base_score: {p!r} is no probability between 0 and 1")
    return -math.log(1.0 / p - 1.0)


def _log(mean: float) -> float:
    if not mean > 0.0:
        raise InvalidModel(f"learner_model_param.base_score: {mean!r} is not above 0")
    return math.log(mean)


def _trees(model: Table, dart: Table | None, features: int, outputs: int, last: int) -> list[list[Tree]]:
    """The trees of each output, up to and with iteration `last`."""
    if model.get("cats") is not None and len(model.table("cats").items("enc")):
        raise UnsupportedModel(
            f"{model.place('cats')}: the model expects categories of a data frame",
            "train on numbers, with feature_types='c' for those that are categories",
        )
    trees = model.items("trees")
    if len(trees) > MAX_TREES:
        raise InvalidModel(f"{model.place('trees')}: more than {MAX_TREES} trees")
    output = model.integers("tree_info", len(trees), 0, outputs - 1)
    weight = dart.numbers("weight_drop", len(trees)).tolist() if dart else [1.0] * len(trees)
    settings = model.table("gbtree_model_param")
    if settings.integer("num_trees", 0, MAX_TREES) != len(trees):
        raise InvalidModel(f"{settings.place('num_trees')}: it is not the {len(trees)} that are there")
    if model.get("iteration_indptr"):
        first = model.integers("iteration_indptr", None, 0, len(trees))
        if first[0] != 0 or first[-1] != len(trees) or first != sorted(first):
            raise InvalidModel(f"{model.place('iteration_indptr')}: it does not ascend from 0 to {len(trees)}")
        end = first[min(last + 1, len(first) - 1)]
    else:
        end = (last + 1) * outputs * settings.integer("num_parallel_tree", 0, MAX_TREES, 1)
    room = Room(MAX_LEAVES - 2 * outputs, MAX_CATEGORY_WORDS)
    groups: list[list[Tree]] = [[] for _ in range(outputs)]
    for k, tree in enumerate(trees[:end]):
        factor = array("f", [weight[k]])[0]
        groups[output[k]].append(read_tree(Table(tree, f"tree {k}"), features, factor, room))
    return groups


def _constant(value: float) -> Tree:
    """A tree of one leaf."""
    return Tree(array("i"), array("f"), array("i"), array("i"), b"", array("d", [value]))


def _linear(model: Table, features: int, outputs: int, base: list[float], link: Link) -> Linear:
    """gblinear: its weights lie by feature, then by output, the last ones are biases; what is missing is left out."""
    if (features + 1) * outputs > MAX_WEIGHTS:
        raise InvalidModel(f"{model.place('weights')}: more than {MAX_WEIGHTS} weights")
    if len(set(base)) > 1:
        raise UnsupportedModel(
            "learner_model_param.base_score: XGBoost takes the first of them for all outputs of a gblinear model",
            "train with a base_score of your own: one number",
        )
    weights = array("f", model.numbers("weights", (features + 1) * outputs))
    by_output = [weights[j::outputs] for j in range(outputs)]
    linear = Linear(
        [w for column in by_output for w in column[:-1]],
        [0.0] * (features * outputs),
        [column[-1] + base[j] for j, column in enumerate(by_output)],
        link,
    )
    linear.validate()
    return linear
