"""Learns a declared preparation from training rows: which number goes where, as a document that travels with the model.

Means, quantiles, categories and components are those of the rows that are handed in, NaN and infinities left out; a
step learns from what the steps before it made. Never imported inside a server process.
"""

import json
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ubp_sql.errors import InvalidModel, TrainingError
from ubp_sql.features.windows import UNITS_US
from ubp_sql.models.limits import MAX_WEIGHTS
from ubp_sql.models.preparation_batch import apply_step
from ubp_sql.models.preparation_document import KEY, VERSION, Preparation, read_preparation
from ubp_sql.training.declared_steps import Declared

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Steps = list[dict[str, Any]]

MOST_CATEGORIES = 20  # of a column, where the declaration does not say
MOST_PCA = 2_000  # columns of a pca: its covariances are a table of their square
WINDOW = re.compile(rf"(.+)_(\d{{1,12}})([{''.join(UNITS_US)}])")


def learn(steps: list[Declared], names: tuple[str, ...], rows: F32 | None) -> Preparation:
    """The preparation of rows whose features have these names in this order.

    rows  (n, features) of training; None: nothing is learnt, steps that have to are refused

    Raises InvalidModel (UB006), FeatureSetMismatch (UB002) where a column does not exist, TrainingError (UB014) where
    the rows teach nothing.
    """
    learner = _Learner(names, rows)
    for step in steps:
        learner.add(step)
    if learner.made is None:
        raise InvalidModel(f"{steps[-1].where}: the steps do nothing to any column", "leave the preparation out")
    return learner.made


class _Learner:
    """The document so far, and the training rows as its steps left them."""

    def __init__(self, names: tuple[str, ...], rows: F32 | None) -> None:
        self.document: dict[str, Any] = {KEY: VERSION, "features": list(names), "steps": []}
        self.columns: list[F64] | None = None if rows is None else list(np.asarray(rows.T, np.float64, order="C"))
        self.places = {name: k for k, name in enumerate(names)}
        self.done: dict[str, set[str]] = {}
        self.made: Preparation | None = None

    def add(self, step: Declared) -> None:
        done = self.done.setdefault(step.done_as, set())
        chosen = step.chosen(list(self.places), done)
        if not chosen:
            raise InvalidModel(f"{step.where}: no column is left for it", "an earlier step of its kind took them all")
        with np.errstate(all="ignore"):
            learnt: Steps = getattr(self, f"_{step.done_as}")(step, chosen)
        if not learnt:
            return
        # Of an interpolation only the columns that have a window.
        done |= {name for made in learnt for name in made["columns"]}
        before = len(self.document["steps"])
        self.document["steps"] += learnt
        self.made = read_preparation(json.dumps(self.document, allow_nan=False).encode())
        if self.columns is not None:
            with np.errstate(all="ignore"):
                for compiled in self.made.program.steps[before:]:
                    apply_step(compiled, self.columns)
        self.places = dict(zip(self.made.outputs, self.made.program.outputs, strict=True))

    def _values(self, step: Declared, name: str) -> F64:
        if self.columns is None:
            raise InvalidModel(
                f"{step.where}: {step.kind} learns from training rows, and there are none here",
                "give the document that training wrote, or numbers",
            )
        return self.columns[self.places[name]]

    def _finite(self, step: Declared, name: str) -> F64:
        values = self._values(step, name)
        return values[np.isfinite(values)]

    def _indicator(self, step: Declared, chosen: list[str]) -> Steps:
        if self.columns is not None:  # of a pattern, those that are missing somewhere
            chosen = [
                name for name in chosen if name in step.patterns or bool(np.isnan(self._values(step, name)).any())
            ]
        return [{"step": "indicator", "columns": chosen}] if chosen else []

    def _interpolate(self, step: Declared, chosen: list[str]) -> Steps:
        families: dict[str, list[tuple[float, str]]] = {}
        for name in chosen:
            found = WINDOW.fullmatch(name)
            # trend_count_view_7d_30d compares two windows: it is not the 30 days' of anything.
            if found and not WINDOW.fullmatch(found[1]):
                families.setdefault(found[1], []).append((int(found[2]) * UNITS_US[found[3]] / UNITS_US["d"], name))
        made = []
        for family in families.values():
            family.sort()
            if len({width for width, _ in family}) == len(family) > 1:
                widths, names = zip(*family, strict=True)
                made.append({"step": "interpolate", "columns": list(names), "widths": list(widths)})
        if not made:
            raise InvalidModel(
                f"{step.where}: no two of its columns are windows of one number",
                "they are told by their names: mean_value_view_7d, mean_value_view_30d",
            )
        return made

    def _impute(self, step: Declared, chosen: list[str]) -> Steps:
        how = step.options["with"]
        if how in ("mean", "median"):
            values = [self._middle(self._finite(step, name), how) for name in chosen]
        else:
            values = [float(how)] * len(chosen)
        return [{"step": "impute", "columns": chosen, "values": values}]

    def _middle(self, values: F64, how: str) -> float:
        if not len(values):
            return 0.0
        return float(values.mean() if how == "mean" else np.median(values))

    def _clip(self, step: Declared, chosen: list[str]) -> Steps:
        made: dict[str, Any] = {"step": "clip", "columns": chosen}
        if quantiles := step.options.get("quantiles"):
            found = [self._finite(step, name) for name in chosen]
            bounds = [np.quantile(values, quantiles).tolist() if len(values) else [0.0, 0.0] for values in found]
            made["low"], made["high"] = [low for low, _ in bounds], [high for _, high in bounds]
        for key in ("low", "high"):
            if key in step.options:
                made[key] = [float(step.options[key])] * len(chosen)
        return [made]

    def _log1p(self, step: Declared, chosen: list[str]) -> Steps:
        return [{"step": "log1p", "columns": chosen}]

    def _standardise(self, step: Declared, chosen: list[str]) -> Steps:
        mean, scale = [], []
        for name in chosen:
            values = self._finite(step, name)
            centre = self._middle(values, "mean")
            spread = float(values.std()) if len(values) else 0.0
            # Of equal numbers, rounding alone spreads: as in scikit-learn's StandardScaler.
            n, eps = len(values), float(np.finfo(np.float64).eps)
            is_constant = spread**2 <= n * eps * spread**2 + (n * centre * eps) ** 2
            mean.append(centre)
            scale.append(1.0 if is_constant else spread)
        return [{"step": "standardise", "columns": chosen, "mean": mean, "scale": scale}]

    def _one_hot(self, step: Declared, chosen: list[str]) -> Steps:
        made = []
        for name in chosen:
            values, counts = np.unique(self._finite(step, name) + 0.0, return_counts=True)  # -0.0 is 0.0
            if not len(values):
                raise TrainingError(f"{step.where}: {name} has no value in the training rows", "leave it out")
            most = np.argsort(-counts, kind="stable")[: step.options.get("most", MOST_CATEGORIES)]
            made.append({"step": "one_hot", "columns": [name], "values": np.sort(values[most]).tolist()})
        return made

    def _pca(self, step: Declared, chosen: list[str]) -> Steps:
        if len(chosen) > MOST_PCA:
            raise InvalidModel(f"{step.where}: {len(chosen)} columns, a pca takes at most {MOST_PCA}")
        columns = [self._values(step, name) for name in chosen]
        for name, values in zip(chosen, columns, strict=True):
            if missing := int((~np.isfinite(values)).sum()):
                raise TrainingError(
                    f"{step.where}: {name} is missing or infinite in {missing} training rows", "impute and clip before"
                )
        x = np.stack(columns)
        if x.shape[1] < 2:
            raise TrainingError(f"{step.where}: a pca learns from two rows at least", "choose another period")
        mean = x.mean(axis=1)
        x -= mean[:, None]
        variance, vectors = np.linalg.eigh(x @ x.T / x.shape[1])
        variance, components = np.maximum(variance[::-1], 0.0), vectors[:, ::-1].T
        count = step.options.get("components")
        if count is None:
            part = np.cumsum(variance) / max(float(variance.sum()), 1e-300)
            count = min(len(chosen), 1 + int(np.searchsorted(part, step.options["share"] - 1e-12)))
        if count > len(chosen):
            raise InvalidModel(f"{step.where}: {count} components of {len(chosen)} columns")
        if count * len(chosen) > MAX_WEIGHTS:
            raise InvalidModel(f"{step.where}: more than {MAX_WEIGHTS} numbers")
        components = components[:count]
        # A component and its opposite are as good: the largest weight is positive, so that two runs agree.
        largest = np.argmax(np.abs(components), axis=1)
        components = components * np.sign(components[np.arange(count), largest])[:, None]
        made = {"step": "pca", "columns": chosen, "mean": mean.tolist(), "components": components.tolist()}
        return [made | ({"name": step.options["name"]} if "name" in step.options else {})]
