"""What is made of training rows: a model's file, and a function that scores with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ubp_sql.training.declared_steps import DEFAULT, Declared, declared
from ubp_sql.training.fit import fit
from ubp_sql.training.rows import CutRows
from ubp_sql.training.settings import LIGHTGBM, LOGISTIC, ROUNDS

Say = Callable[[str], None]
Predict = Callable[[NDArray[np.float32]], NDArray[np.float64]]


@dataclass(frozen=True)
class Recipe:
    """Which model, and what is done to its features before."""

    model: str
    prepare: list[Declared] | None
    threads: int

    @classmethod
    def of(cls, model: str = "trees", prepare: list[Declared] | None = None, threads: int = 0) -> "Recipe":
        """prepare  None: nothing for trees, declared_steps.DEFAULT for a linear model"""
        return cls(model, declared(DEFAULT, "default") if prepare is None and model == "linear" else prepare, threads)

    def fit(self, rows: Sequence[CutRows], names: list[str], say: Say) -> tuple[str, Predict]:
        """A model's file, and what it says of rows. Raises TrainingError (UB014)."""
        if self.prepare is None:
            booster = fit(rows, names, self.threads)
            return booster.model_to_string(), lambda features: np.asarray(booster.predict(features))
        from ubp_sql.training.linear_fit import fit_prepared, score

        source = fit_prepared(rows, names, self.model, self.prepare, self.threads, say)
        return source.decode(), lambda features: score(source, names, features)

    def settings(self) -> dict[str, Any]:
        """What ubp.models.settings keeps of it."""
        found: dict[str, Any] = {"lightgbm": LIGHTGBM, "rounds": ROUNDS}
        if self.model == "linear":
            found = {"logistic": LOGISTIC}
        if self.prepare is not None:
            found["prepare"] = [
                {"step": step.kind, "columns": list(step.patterns), **step.options} for step in self.prepare
            ]
        return found
