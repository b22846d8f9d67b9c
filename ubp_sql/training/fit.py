"""LightGBM, the trainer: rows in, a text model out. Never imported inside a server process."""

from collections.abc import Sequence
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from ubp_sql.errors import TrainingError
from ubp_sql.training.cuts import weights
from ubp_sql.training.evaluate import of_amounts
from ubp_sql.training.rows import CutRows, Labels
from ubp_sql.training.settings import (
    AMOUNTS,
    BASE_RATE_SHIFT,
    LEAST_IN_LEAF,
    LIGHTGBM,
    MOST_IN_LEAF,
    ROUNDS,
    ROWS_A_LEAF,
    SIGNED,
)


def fit(rows: Sequence[CutRows], names: Sequence[str], threads: int = 0) -> lightgbm.Booster:
    """A booster on the rows of all cuts, the newer ones weighing more: of chances, or of the mean of amounts.

    Raises TrainingError (UB014) when nobody was known at any cut, or all labels are equal.
    """
    rows = with_labels(rows)
    labels = np.concatenate([cut.labels for cut in rows])
    leaf = min(MOST_IN_LEAF, max(LEAST_IN_LEAF, len(labels) // ROWS_A_LEAF))
    settings: dict[str, Any] = {**LIGHTGBM, **objective(labels), "min_data_in_leaf": leaf, "num_threads": threads}
    weight = weights([cut.cut for cut in rows], [len(cut.labels) for cut in rows])
    # A list of matrices: joined, they would be in memory twice.
    data = lightgbm.Dataset(
        [cut.features for cut in rows], labels, weight=weight, feature_name=list(names), free_raw_data=True
    )
    booster = lightgbm.train(settings, data, num_boost_round=ROUNDS)
    if not of_amounts(labels):
        _shift(booster, rows[-1])
    return booster


def objective(labels: Labels) -> dict[str, Any]:
    """What differs from LIGHTGBM for amounts; a log link gives none below 0, so labels below 0 need another."""
    if not of_amounts(labels):
        return {}
    return SIGNED if labels.min() < 0 else AMOUNTS


def with_labels(rows: Sequence[CutRows]) -> list[CutRows]:
    """The cuts at which somebody was known; raises TrainingError (UB014) as `fit`."""
    rows = [cut for cut in rows if len(cut.labels)]
    if not rows:
        raise TrainingError(
            "nobody had a known history at any training moment",
            "a past moment knows only what had arrived by then: ubp.events.ingested_at may be later than event_time",
        )
    labels = np.concatenate([cut.labels for cut in rows])
    if of_amounts(labels):
        _refuse_amounts(labels)
        return rows
    positives = int(labels.sum())
    if positives in (0, len(labels)):
        which = "nobody" if positives == 0 else "everybody"
        raise TrainingError(
            f"{which} of the {len(labels)} training rows has the label", "choose another label kind, horizon or period"
        )
    return rows


def _refuse_amounts(labels: Labels) -> None:
    if labels.min() == labels.max():
        raise TrainingError(
            f"the label of all {len(labels)} training rows is {labels[0]:g}", "choose another label, horizon or period"
        )
    if np.abs(labels).max() > np.finfo(np.float32).max:
        raise TrainingError(
            f"a label is {labels[np.abs(labels).argmax()]:g}, more than a trainer takes", "choose a larger unit"
        )


def _shift(booster: lightgbm.Booster, newest: CutRows) -> None:
    """Adds BASE_RATE_SHIFT of the distance to the newest cut's share of positives to the log odds of every score.

    The constant goes into the leaves of the first tree, so the model stays one plain LightGBM model.
    """
    if not 0 < int(newest.labels.sum()) < len(newest.labels):
        return
    raw = np.asarray(booster.predict(newest.features, raw_score=True))
    constant = BASE_RATE_SHIFT * shift_to(raw, float(newest.labels.mean()))
    first = booster.dump_model(num_iteration=1)["tree_info"][0]
    for leaf in range(first["num_leaves"]):
        booster.set_leaf_output(0, leaf, booster.get_leaf_output(0, leaf) + constant)


def shift_to(raw: NDArray[np.float64], share: float) -> float:
    """The constant c for which sigmoid(raw + c) has the mean `share`, 0 < share < 1, by bisection."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = float((1 / (1 + np.exp(-(raw + middle)))).mean())
        low, high = (middle, high) if mean < share else (low, middle)
    return (low + high) / 2


def main_features(
    booster: lightgbm.Booster, row: NDArray[np.float32], names: Sequence[str], top: int
) -> list[tuple[str, float, float]]:
    """The `top` features that moved this row's score most: (name, value, contribution to the log odds)."""
    contributions = np.asarray(booster.predict(row.reshape(1, -1), pred_contrib=True))[0, :-1]
    chosen = np.argsort(-np.abs(contributions), kind="stable")[:top]
    return [(names[i], float(row[i]), float(contributions[i])) for i in chosen]
