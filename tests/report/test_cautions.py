"""What the page says is not to be trusted: said where it is so, and not where it is not."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from tests.report.document import Document
from tests.report.made import CUT, facts
from ubp_sql.training.report import resample
from ubp_sql.training.report.cautions import NOT_A_CAUSE, cautions
from ubp_sql.training.report.curves import F64
from ubp_sql.training.report.facts import Facts, HeldOut
from ubp_sql.training.report.measured import measured
from ubp_sql.training.report.page import page


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resample, "ROUNDS", resample.LEAST_ROUNDS)


def said(found: Facts, labels: F64, scores: F64) -> str:
    test = HeldOut(CUT, np.arange(len(labels)), scores, labels, "by hand")
    found.tests = [*found.tests[:-1], test]
    return " ".join(cautions(found, test, measured(test, found.task.amount)))


def chances(n: int, seed: int = 1) -> tuple[F64, F64]:
    """Scores that come true as often as they say."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(1, 2, n)
    return (rng.random(n) < scores).astype(float), scores


def unmapped() -> Facts:
    return replace(facts(50), map=None, calibration={})


def test_a_good_model_of_one_test() -> None:
    found = unmapped()
    once = "It was tested at one moment, 20 June 2025: in another season it may do better or worse."
    assert said(found, *chances(4_000)) == f"{once} {NOT_A_CAUSE}"
    found.tests.insert(0, replace(found.tests[0], cut=CUT - timedelta(days=30)))
    assert said(found, *chances(4_000)) == NOT_A_CAUSE


@pytest.mark.parametrize(("factor", "off"), [(0.7, "low"), (1.3, "high")])
def test_chances_of_another_level(factor: float, off: str) -> None:
    labels, scores = chances(4_000)
    assert f"Chances were too {off} in this test" in said(unmapped(), labels, (factor * scores).clip(0, 1))


def test_the_level_is_that_of_what_answers() -> None:
    """Through the map where it was tried, and unknown where it was not."""
    labels, scores = chances(4_000)
    found = facts(4_000)
    after = found.calibration[True]
    found.calibration[True] = replace(after, bins=[one._replace(score=one.label) for one in after.bins])
    labels, scores = found.tests[0].labels, found.tests[0].scores
    assert "Chances were" not in said(found, labels, 0.5 * scores)
    found.calibration[True] = replace(after, bins=[one._replace(score=one.label / 2) for one in after.bins])
    assert "Chances were too low" in said(found, labels, scores)
    del found.calibration[True]
    assert "was not tried on this test" in said(found, labels, scores)


def test_few_users_and_no_order() -> None:
    labels, scores = chances(4_000)
    order = np.random.default_rng(2).permutation(len(scores))
    assert "any better than chance is not sure" in said(unmapped(), labels, scores[order])
    rare = np.zeros(4_000)
    rare[np.argsort(scores)[-99:]] = 1
    assert "Only 99 of the users tested did:" in said(unmapped(), rare, scores)
    assert "Only 99 of the users tested did not:" in said(unmapped(), 1 - rare, 1 - scores)
    rare[np.argsort(scores)[-101:]] = 1
    assert "Only" not in said(unmapped(), rare, scores)


def test_amounts() -> None:
    rng = np.random.default_rng(4)
    mean = rng.gamma(1, 50, 4_000)
    labels = rng.gamma(4, mean / 4)
    found = replace(facts(50, amount=True), metrics=[])
    assert said(found, labels, mean).startswith("It was tested at one moment")
    assert "It predicted too little in this test" in said(found, labels, 0.8 * mean)
    assert "It predicted too much in this test" in said(found, labels, 1.2 * mean)
    assert "no nearer than something simpler" in said(found, labels, rng.permutation(mean))
    row = {"cut": CUT, "metric": "baseline_mae", "value": 1.0, "n": 1, "positives": 1, "protocol": "baseline: the past"}
    assert "no nearer than something simpler" in said(replace(found, metrics=[row]), labels, mean)
    few = np.where(np.arange(4_000) < 99, labels, 0)
    assert "Only 99 users had an amount other than 0" in said(found, few, few)


@pytest.mark.parametrize("amount", [False, True])
def test_it_is_on_the_page_of_tests_that_tell_little(amount: bool) -> None:
    found = replace(facts(50, amount=amount), importance=[], effects=[])
    for labels, scores in (([1.0], [0.3]), ([0.0] * 12, [0.0] * 12), ([1.0, 0.0], [0.5, 0.5])):
        users = np.arange(len(labels))
        found.tests = [HeldOut(CUT, users, np.array(scores), np.array(labels), "by hand")]
        text = " ".join(Document(page(found, png=False)[0]).text)
        assert "What to be careful with" in text
        assert "Only " in text
        assert NOT_A_CAUSE in text
