"""Facts of a report, made up."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np

from ubp_sql.training.report.curves import F64, bins
from ubp_sql.training.report.drawing import Drawn
from ubp_sql.training.report.facts import (
    Calibration,
    Example,
    Facts,
    Group,
    HeldOut,
    Map,
    Model,
    Reason,
    Scored,
    Task,
)
from ubp_sql.training.report.figures_effects import Effect, Importance
from ubp_sql.training.report.page import page

CUT = datetime(2025, 6, 20, tzinfo=UTC)


def held_out(n: int = 4_000, seed: int = 3, amount: bool = False) -> tuple[F64, F64]:
    """(labels, scores): chances that nearly come true, or amounts with many zeros."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(1.2, 3, n)
    labels = (rng.random(n) < chance).astype(float)
    scores = (0.8 * chance + 0.05).round(3)
    if amount:
        scores = np.exp(4 * scores)
        labels = labels * rng.gamma(0.8, 1.5 * scores)
    return labels, scores


def facts(n: int = 4_000, amount: bool = False) -> Facts:
    """All that a report can have."""
    labels, scores = held_out(n, amount=amount)
    test = HeldOut(CUT, np.arange(1, n + 1), scores, labels, "trained only on moments whose labels end before this cut")
    task = Task(
        name="spend" if amount else "purchase",
        meaning="what a user spends" if amount else "chance that a user buys",
        label="sum of value over purchase" if amount else "at least one purchase within the horizon",
        rule='{"sum": "value", "kinds": ["purchase"]}' if amount else '{"any": ["purchase"]}',
        population_kind="purchase",
        horizon=timedelta(days=30),
        feature_set="default",
        amount=amount,
        deployed_version=2,
        as_of=datetime(2025, 7, 20, tzinfo=UTC),
    )
    model = Model(
        model_id=2,
        version=2,
        format="lightgbm",
        objective="regression" if amount else "binary",
        trees=160,
        feature_set="default",
        feature_set_hash="5f" * 32,
        features=5,
        data_from=datetime(2025, 3, 1, tzinfo=UTC),
        data_until=datetime(2025, 7, 20, tzinfo=UTC),
        settings={"rounds": 160, "lightgbm": {"num_leaves": 6}},
        code_version="0.1.0",
        created_by="trainer",
        created_at=datetime(2025, 7, 20, 3, 30, tzinfo=UTC),
        status="ready",
        compiled_sha256="a7" * 32,
        preparation=None,
    )
    metrics: list[dict[str, Any]] = [
        {
            "cut": CUT - timedelta(days=30 * back),
            "metric": metric,
            "value": 0.7,
            "n": n,
            "positives": n // 4,
            "protocol": "baseline: the past" if metric.startswith("baseline") else "held out",
        }
        for back in (1, 0)
        for metric in (("mae", "bias", "baseline_mae") if amount else ("auc", "brier"))
    ]
    calibration = (
        {}
        if amount
        else {
            after: Calibration(
                "isotonic" if after else None, 0.03 - 0.02 * after, 0.0, 0.04, 0.5, 0.17, bins(labels, scores)
            )
            for after in (False, True)
        }
    )
    return Facts(
        task=task,
        model=model,
        server="PostgreSQL 15",
        tests=[test],
        metrics=metrics,
        calibration=calibration,
        map=None if amount else Map(1, "isotonic", 2_000, [CUT - timedelta(days=30)]),
        deployed_at=datetime(2025, 7, 20, 3, 31, tzinfo=UTC),
        scored=Scored(datetime(2025, 7, 20, tzinfo=UTC), datetime(2025, 7, 20, 4, tzinfo=UTC), 900, [("unknown", 12)]),
        importance=[Importance(f"feature_{k}", f"what feature {k} says", (5 - k) / 15) for k in range(5)],
        effects=[_effect(k) for k in range(3)],
        studied="1,000 users as of 20 July 2025, by exact Shapley values (SHAP)",
        groups=_groups(),
    )


@cache
def whole(amount: bool) -> tuple[str, list[Drawn]]:
    """The page of `facts` and its figures with their images."""
    return page(facts(amount=amount), png=True)


def untested(**changes: Any) -> Facts:
    """Without held-out users: a page without figures."""
    nothing: dict[str, Any] = {"tests": [], "calibration": {}, "importance": [], "effects": [], "studied": ""}
    return replace(facts(100), **nothing | changes)


def _effect(k: int) -> Effect:
    x = np.arange(20.0) if k else np.array([3.0])
    mean = 0.2 + 0.01 * x
    return Effect(f"feature_{k}", f"what feature {k} says", x, mean, 0.3 if k else None)


def _groups() -> list[Group]:
    reasons = [Reason("purchases in the last 30 days: raises the chance by 4.1 points", 3.0, 1.0)]
    return [
        Group("The highest scores", "", [Example(7, "seven", 0.91, 99.99, None, reasons)]),
        Group("Surprises", "As of 20 June 2025.", [Example(8, "eight", 0.88, None, 0.0)]),
    ]
