"""How good a score is on people whose outcome is known by now."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from ubp_sql.training.rows import Labels

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
CALIBRATION_BINS = 10


def calibration_error(labels: Labels, scores: F64, bins: int = CALIBRATION_BINS) -> float:
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


def lift(labels: Labels, scores: F64, share: float = 0.1) -> float:
    """Share of positives among the highest `share` of scores, divided by the share among all."""
    top = max(1, round(share * len(labels)))
    chosen = np.argsort(-scores, kind="stable")[:top]
    return float(labels[chosen].mean() / labels.mean())


def of_amounts(labels: Labels) -> bool:
    """Whether these are amounts; labels of chances are bytes."""
    return labels.dtype.kind == "f"


def metrics(labels: Labels, scores: F64) -> dict[str, float]:
    """AUC, PR AUC, log loss, Brier score, calibration error and lift at 10 %; of amounts, `amount_metrics`.

    labels  (n,) 0 or 1, both present; or amounts
    scores  (n,) probabilities; or amounts
    """
    if of_amounts(labels):
        return amount_metrics(labels, scores)
    return {
        "auc": float(roc_auc_score(labels, scores)),
        "pr_auc": float(average_precision_score(labels, scores)),
        "log_loss": float(log_loss(labels, scores)),
        "brier": float(brier_score_loss(labels, scores)),
        "calibration_error": calibration_error(labels, scores),
        "lift_10": lift(labels, scores),
    }


def amount_metrics(labels: Labels, scores: F64) -> dict[str, float]:
    """MAE, RMSE, R2, Spearman's rank correlation (0 where either never differs) and bias: mean score less mean label.

    labels, scores  (n,) in one unit
    """
    gaps = scores - labels
    spread = float(np.mean((labels - labels.mean()) ** 2))
    return {
        "mae": float(np.abs(gaps).mean()),
        "rmse": float(np.sqrt(np.mean(gaps**2))),
        "r2": 1.0 - float(np.mean(gaps**2)) / spread if spread > 0 else 0.0,
        "spearman": rank_correlation(labels, scores),
        "bias": float(gaps.mean()),
    }


def mean_ranks(values: NDArray[Any]) -> F64:
    """(n,) places from 1 in ascending order, equal values at the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: F64 = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def rank_correlation(one: Labels, other: F64) -> float:
    """Spearman's rho, ties at their mean rank; 0 where either never differs."""
    ranks = [mean_ranks(values) for values in (one, other)]
    if any(rank.min() == rank.max() for rank in ranks):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


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


def as_rows(cut: str, labels: Labels, values: dict[str, float], protocol: str) -> list[dict[str, Any]]:
    """Rows of ubp.model_metrics, without the model's number; of amounts, the positives are those above 0."""
    n, positives = len(labels), int((labels > 0).sum())
    return [
        {"cut": cut, "metric": name, "value": value, "n": n, "positives": positives, "protocol": protocol}
        for name, value in values.items()
    ]
