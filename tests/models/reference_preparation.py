"""What a preparation does to a row, in plain loops over the document: nothing of the package is used here."""

import math
import struct
from typing import Any

Row = dict[str, float]


def prepare(document: dict[str, Any], values: list[float]) -> list[float]:
    """The prepared row, rounded to float32, of features in the document's order."""
    row: Row = dict(zip(document["features"], values, strict=True))
    for step in document["steps"]:
        _STEPS[step["step"]](step, row)
    return [_float32(x) for x in row.values()]


def _float32(x: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", x))[0])
    except OverflowError:
        return math.copysign(math.inf, x)


def _indicator(step: Any, row: Row) -> None:
    for name in step["columns"]:
        row[f"{name}_missing"] = float(math.isnan(row[name]))


def _interpolate(step: Any, row: Row) -> None:
    known = [(w, row[name]) for w, name in zip(step["widths"], step["columns"], strict=True) if row[name] == row[name]]
    for w, name in zip(step["widths"], step["columns"], strict=True):
        below, above = [k for k in known if k[0] < w], [k for k in known if k[0] > w]
        if row[name] != row[name] and below and above:
            (wa, a), (wb, b) = below[-1], above[0]
            row[name] = a + (b - a) * ((w - wa) / (wb - wa))
        elif row[name] != row[name] and known:
            row[name] = (below[-1:] or above[:1])[0][1]


def _impute(step: Any, row: Row) -> None:
    for name, value in zip(step["columns"], step["values"], strict=True):
        row[name] = float(value) if math.isnan(row[name]) else row[name]


def _clip(step: Any, row: Row) -> None:
    for k, name in enumerate(step["columns"]):
        if "low" in step and row[name] < step["low"][k]:
            row[name] = float(step["low"][k])
        if "high" in step and row[name] > step["high"][k]:
            row[name] = float(step["high"][k])


def _log1p(step: Any, row: Row) -> None:
    for name in step["columns"]:
        row[name] = math.copysign(math.log1p(math.fabs(row[name])), row[name])


def _standardise(step: Any, row: Row) -> None:
    for name, mean, scale in zip(step["columns"], step["mean"], step["scale"], strict=True):
        row[name] = (row[name] - mean) / scale


def _one_hot(step: Any, row: Row) -> None:
    (name,) = step["columns"]
    x = row.pop(name)
    for value in step["values"]:
        row[f"{name}={int(value) if value == int(value) else value!r}"] = float(x == value)
    row[f"{name}=other"] = float(x == x and x not in step["values"])
    row[f"{name}=missing"] = float(x != x)


def _pca(step: Any, row: Row) -> None:
    centred = [row.pop(name) - mean for name, mean in zip(step["columns"], step["mean"], strict=True)]
    for k, weights in enumerate(step["components"]):
        total = 0.0
        for x, weight in zip(centred, weights, strict=True):
            total = total + x * weight
        row[f"{step.get('name', 'pca')}_{k + 1}"] = total


_STEPS = {
    "indicator": _indicator,
    "interpolate": _interpolate,
    "impute": _impute,
    "clip": _clip,
    "log1p": _log1p,
    "standardise": _standardise,
    "one_hot": _one_hot,
    "pca": _pca,
}
