"""Features that know the label: what no rule about time can see, such as a column that is filled in afterwards."""

from collections.abc import Sequence

import numpy as np

from ubp_sql.training.evaluate import mean_ranks, of_amounts
from ubp_sql.training.rows import CutRows

SUSPECT = 0.9999
"""AUC, or absolute rank correlation with an amount, of a single feature."""
LEAST = 20
"""Of each label: among a few a feature may fit by chance."""
ROWS = 20_000


def leaking(rows: CutRows, names: Sequence[str]) -> list[tuple[str, float]]:
    """(feature, how well it alone ranks the label, in either direction) of each that is as good as the label itself."""
    step = max(1, len(rows.labels) // ROWS)
    labels, features = rows.labels[::step], rows.features[::step]
    if of_amounts(labels):
        enough = len(np.unique(labels)) >= LEAST
    else:
        enough = LEAST <= int(labels.sum()) <= len(labels) - LEAST
    if not enough:
        return []
    found = []
    for name, column in zip(names, features.T, strict=True):
        # A missing value is below all others: whether there is one may be what tells.
        rank = mean_ranks(np.where(np.isnan(column), -np.inf, column))
        if rank.min() == rank.max():
            continue
        if of_amounts(labels):
            fit = abs(float(np.corrcoef(rank, mean_ranks(labels))[0, 1]))
        else:
            positives, n = int(labels.sum()), len(labels)
            auc = (rank[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * (n - positives))
            fit = float(max(auc, 1 - auc))
        if fit >= SUSPECT:
            found.append((name, fit))
    return found
