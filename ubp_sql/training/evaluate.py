"""How good a score is on people whose outcome is known by now."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
CALIBRATION_BINS = 10


def calibration_error(labels: U8, scores: F64, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error: mean over equally filled bins of |mean score - share of positives|.

    Source: Naeini et al. 2015, with quantile bins (Nixon et al. 2019), weighted by their size.
    """
    order = np.argsort(scores, kind="stable")
    gaps = [
        abs(float(scores[part].mean()) - float(labels[part].mean())) * len(part)
        for part in np.array_split(order, min(bins, len(order)))
        if len(part)
    ]
    return sum(gaps) / len(order)


def lift(labels: U8, scores: F64, share: float = 0.1) -> float:
    """Share of positives among the highest `share` of scores, divided by the share among all."""
    top = max(1, round(share * len(labels)))
    chosen = np.argsort(-scores, kind="stable")[:top]
    return float(labels[chosen].mean() / labels.mean())


def metrics(labels: U8, scores: F64) -> dict[str, float]:
    """AUC, PR AUC, log loss, Brier score, calibration error and lift at 10 %.

    labels  (n,) 0 or 1, both present
    scores  (n,) probabilities
    """
    return {
        "auc": float(roc_auc_score(labels, scores)),
        "pr_auc": float(average_precision_score(labels, scores)),
        "log_loss": float(log_loss(labels, scores)),
        "brier": float(brier_score_loss(labels, scores)),
        "calibration_error": calibration_error(labels, scores),
        "lift_10": lift(labels, scores),
    }


def bootstrap(labels: U8, scores: F64, rounds: int = 500, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % intervals of AUC and Brier score by resampling users."""
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {"auc": [], "brier": []}
    while len(drawn["auc"]) < rounds:
        pick = rng.integers(0, len(labels), len(labels))
        if 0 < labels[pick].sum() < len(pick):
            drawn["auc"].append(float(roc_auc_score(labels[pick], scores[pick])))
            drawn["brier"].append(float(brier_score_loss(labels[pick], scores[pick])))
    return {name: tuple(np.percentile(values, [2.5, 97.5]).tolist()) for name, values in drawn.items()}


def as_rows(cut: str, labels: U8, values: dict[str, float], protocol: str) -> list[dict[str, Any]]:
    """Rows of ubp.model_metrics, without the model's number."""
    n, positives = len(labels), int(labels.sum())
    return [
        {"cut": cut, "metric": name, "value": value, "n": n, "positives": positives, "protocol": protocol}
        for name, value in values.items()
    ]
