"""Valid inputs of every target, made by code: small ones of many shapes, so that an edit hits what matters."""

import base64
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz import seeds_onnx, seeds_preparation, seeds_xgboost
from tests.fuzz.mutants import Seeds
from tests.fuzz.targets import NAMES


def _lightgbm() -> list[bytes]:
    """Written by hand with splits that training seldom makes, and trained ones with all their fields."""
    import lightgbm
    import numpy as np

    from tests.models.forest_makers import random_model

    random = Random(11)
    texts = [random_model(random, len(NAMES), random.randint(1, 4), random.randint(2, 8)) for _ in range(12)]
    texts.append(random_model(random, len(NAMES), 6, 60))
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, len(NAMES))).astype(np.float32)
    x[:, 2] = rng.integers(0, 40, 200)
    x[rng.random(x.shape) < 0.1] = np.nan
    kinds: list[dict[str, Any]] = [
        {"objective": "binary", "categorical_feature": [2], "min_data_per_group": 1, "cat_smooth": 0.1},
        {"objective": "regression", "zero_as_missing": True},
        {"objective": "multiclass", "num_class": 3},
    ]
    for kind in kinds:
        categorical = kind.pop("categorical_feature", "auto")
        options = {**kind, "num_leaves": 6, "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5, "seed": 1}
        y = rng.integers(0, kind.get("num_class", 2), 200)
        data = lightgbm.Dataset(x, y, feature_name=list(NAMES), categorical_feature=categorical)
        texts.append(str(lightgbm.train(options, data, 3).model_to_string()).encode())
    return texts


def _compiled(*makers: Callable[[], list[bytes]]) -> list[bytes]:
    """Compiled forms of models in files."""
    from ubp_sql.models.formats import read_model

    return [read_model(data, NAMES).compiled for maker in makers for data in maker()]


def _linear() -> list[bytes]:
    """Compiled linear models, several outputs among them."""
    from ubp_sql.models.linear import Linear, compile_linear

    random, nan = Random(41), float("nan")
    made = []
    for outputs, link in ((1, 1), (1, 0), (3, 2), (2, 3)):
        n = len(NAMES) * outputs
        weights, bias = [random.gauss(0, 1) for _ in range(n)], [random.gauss(0, 1) for _ in range(outputs)]
        made.append(compile_linear(Linear(weights, [random.choice((nan, 0.0, 1.5)) for _ in range(n)], bias, link)))
    return made


def _plans() -> list[bytes]:
    """Of sets of a few features each: between them every aggregate that needs no other feature."""
    from tests.features.spec_cases import COLUMNS, cases
    from ubp_sql.features.columns import Declared
    from ubp_sql.features.definition import FeatureSetDefinition
    from ubp_sql.features.spec import FeatureSpec

    specs = [FeatureSpec.from_mapping(case) for case in cases() if not str(case["aggregate"]).startswith("percentile")]
    Random(5).shuffle(specs)
    declared = tuple(Declared(*column) for column in COLUMNS)
    parts = [tuple(specs[i : i + 12]) for i in range(0, len(specs), 12)]
    return [FeatureSetDefinition((), (), part, declared).plan_blob for part in parts]


def _specs() -> list[list[dict[str, object]]]:
    """Definitions that need no declared column."""
    from tests.features.spec_cases import COLUMNS, cases

    own = {name for name, _, _ in COLUMNS}
    plain = [case for case in cases() if case.get("of") not in own and "where" not in case]
    plain = [case for case in plain if not str(case["aggregate"]).startswith("percentile")]
    return [plain[i : i + 4] for i in range(0, len(plain), 4)][:40]


def _features() -> list[bytes]:
    from ubp_sql.sources.feature_file import write_features

    return [write_features(specs, "what is asked of a user").encode() for specs in _specs()]


def _feature_sets() -> list[bytes]:
    from ubp_sql.features.definition import FeatureSetDefinition
    from ubp_sql.features.spec import FeatureSpec

    made = [FeatureSetDefinition((), (), tuple(map(FeatureSpec.from_mapping, specs))) for specs in _specs()[:10]]
    made.append(FeatureSetDefinition(("purchase", "view"), (7, 30)))
    return [definition.to_json().encode() for definition in made]


def _maps() -> list[bytes]:
    from ubp_sql.sources.load_map import SHIPPED

    return [path.read_bytes() for path in sorted(SHIPPED.glob("*.yaml"))]


MAKERS: dict[str, Callable[[], list[bytes]]] = {
    "lightgbm": _lightgbm,
    "xgboost_json": seeds_xgboost.as_json,
    "xgboost_ubj": seeds_xgboost.as_ubj,
    "onnx_trees": seeds_onnx.trees,
    "onnx_linear": seeds_onnx.linear,
    "onnx_networks": seeds_onnx.networks,
    "trees": partial(_compiled, _lightgbm),
    "linear": _linear,
    "network": partial(_compiled, seeds_onnx.networks),
    "preparation": seeds_preparation.documents,
    "prepared": seeds_preparation.compiled,
    "plan": _plans,
    "features": _features,
    "feature_set": _feature_sets,
    "map": _maps,
}


def make(names: list[str]) -> Seeds:
    return {name: MAKERS[name]() for name in names}


def write(path: Path, seeds: Seeds) -> None:
    path.write_text(json.dumps({k: [base64.b64encode(v).decode() for v in found] for k, found in seeds.items()}))


def load(path: Path) -> Seeds:
    return {k: [base64.b64decode(v) for v in found] for k, found in json.loads(path.read_text()).items()}
