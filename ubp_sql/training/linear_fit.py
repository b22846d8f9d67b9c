"""Logistic regression, and any model behind a preparation: rows in, a model file out. Never imported in a server."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ubp_sql.errors import TrainingError
from ubp_sql.models import linear_text
from ubp_sql.models.formats import read_model
from ubp_sql.models.loaded import open_model
from ubp_sql.models.preparation_batch import prepare_rows
from ubp_sql.models.preparation_document import together
from ubp_sql.training.cuts import weights
from ubp_sql.training.declared_steps import Declared
from ubp_sql.training.fit import fit, shift_to, with_labels
from ubp_sql.training.prepare import learn
from ubp_sql.training.rows import CutRows
from ubp_sql.training.settings import BASE_RATE_SHIFT, LOGISTIC

F64 = NDArray[np.float64]
OBJECTIVE = "logistic regression"


def fit_prepared(
    rows: Sequence[CutRows],
    names: Sequence[str],
    model: str,
    steps: list[Declared],
    threads: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> bytes:
    """A file of a model behind its preparation, both learnt from the rows of all cuts.

    model  'linear' or 'trees'

    Raises TrainingError (UB014) as `fit.fit`, and what `prepare.learn` raises.
    """
    rows = with_labels(rows)
    preparation = learn(steps, tuple(names), np.concatenate([cut.features for cut in rows]))
    prepared = [replace(cut, features=prepare_rows(preparation.program, cut.features)) for cut in rows]
    outputs = preparation.outputs
    if model == "trees":
        source = fit(prepared, outputs, threads).model_to_string().encode()
    else:
        source = _logistic(prepared, outputs, say)
    return together(preparation.text.encode(), source)


def score(source: bytes, names: Sequence[str], features: NDArray[np.float32]) -> F64:
    """(n,) what a model file says of rows, by the scorer of the server: the same bits."""
    return open_model(read_model(source, tuple(names)).compiled).score_batch(features)[:, 0]


def _logistic(rows: Sequence[CutRows], names: Sequence[str], say: Callable[[str], None]) -> bytes:
    x = np.concatenate([cut.features for cut in rows]).astype(np.float64)
    if not np.isfinite(x).all():
        first = names[int(np.argmax(~np.isfinite(x).all(axis=0)))]
        raise TrainingError(
            f"{first} is missing or infinite in some training rows: a linear model has no score for them",
            "prepare it: impute, and clip what may be infinite",
        )
    labels = np.concatenate([cut.labels for cut in rows])
    weight = weights([cut.cut for cut in rows], [len(cut.labels) for cut in rows])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = LogisticRegression(**LOGISTIC).fit(x, labels, weight / weight.mean())
    if any(issubclass(found.category, ConvergenceWarning) for found in caught):
        say(f"the regression did not settle within {LOGISTIC['max_iter']} steps: standardise its columns")
    coefficients, bias = model.coef_[0], float(model.intercept_[0])
    newest = rows[-1]
    if 0 < int(newest.labels.sum()) < len(newest.labels):
        raw = newest.features.astype(np.float64) @ coefficients + bias
        bias += BASE_RATE_SHIFT * shift_to(raw, float(newest.labels.mean()))
    return linear_text.write(names, [coefficients.tolist()], [bias], "sigmoid", OBJECTIVE)
