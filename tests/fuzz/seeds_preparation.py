"""Documents of preparations of every step, and compiled models behind them."""

import json
from random import Random
from typing import Any

from tests.fuzz.targets import NAMES
from ubp_sql.models.linear import Linear, compile_linear
from ubp_sql.models.preparation_blob import compile_prepared
from ubp_sql.models.preparation_document import read_preparation


def documents() -> list[bytes]:
    random = Random(51)
    names = list(NAMES)
    some = names[:2]

    def numbers(n: int) -> list[float]:
        return [round(random.gauss(0, 2), 2) for _ in range(n)]

    steps: list[dict[str, Any]] = [
        {"step": "indicator", "columns": names[:3]},
        {"step": "interpolate", "columns": names[:3], "widths": [7, 30, 90]},
        {"step": "impute", "columns": names, "values": numbers(5)},
        {"step": "clip", "columns": some, "low": [-4, -2.5], "high": [3, 1e9]},
        {"step": "log1p", "columns": some},
        {"step": "standardise", "columns": names[:4], "mean": numbers(4), "scale": [0.5, 1, 2, 1e-3]},
        {"step": "one_hot", "columns": ["f4"], "values": [-1, 0, 1, 2.5, 7]},
        {"step": "pca", "columns": names[1:4], "mean": numbers(3), "components": [numbers(3), numbers(3)]},
    ]
    parts = [steps, steps[:2], steps[2:5], steps[5:], steps[6:7], steps[7:], steps[1:3]]
    parts.append([{"step": "clip", "columns": names, "high": numbers(5)}, {**steps[7], "name": "main"}])
    return [json.dumps({"ubp_preparation": 1, "features": names, "steps": part}).encode() for part in parts]


def behind(document: bytes) -> bytes:
    """A linear model of all that the preparation makes, compiled."""
    preparation = read_preparation(document)
    n = len(preparation.outputs)
    model = compile_linear(Linear([1.0 - k / n for k in range(n)], [float("nan")] * n, [0.5], 0))
    return compile_prepared(preparation.program, model, 1)


def compiled() -> list[bytes]:
    return [behind(document) for document in documents()]
