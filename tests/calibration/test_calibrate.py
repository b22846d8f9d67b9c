"""Maps fitted in the server on held-out tests, what the tests say, and `ubp-sql calibrate`."""

from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest

from tests.api.helpers import Connection, refused
from tests.cli.running import document, refusal, told
from tests.fix_database import Database
from tests.serving_shop import said
from ubp_sql.models.calibration_fit import Outcomes, fitted
from ubp_sql.training.backtest import calibration_plans
from ubp_sql.training.evaluate import calibration_error

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
RECORD = "select ubp.record_test('purchase', 1, %s, %s, %s, %s, %s, 'by hand')"
MAPS = "select map_id, method, x, y, n, cardinality(cuts), metrics from ubp.calibration_maps order by map_id"
REPORT = """
select cut, calibrated, method, n, positives, error, low, high, by_chance, with_drift
  from ubp.calibration_report order by cut, calibrated"""


def moment(conn: Connection, day: int, part: str, slope: float = 0.4, n: int = 2_000) -> Outcomes:
    """Records scores whose log odds are too large, unless `slope` is 1."""
    rng = np.random.default_rng(day)
    scores = rng.beta(2, 4, n)
    labels = (rng.random(n) < 1 / (1 + (1 / scores - 1) ** slope)).astype("<f8")
    users = np.arange(n, dtype="<i8").tobytes()
    conn.execute(RECORD, [FIRST + timedelta(days=day), part, users, scores.tobytes(), labels.tobytes()])
    return Outcomes(day, scores, labels)


def test_a_map_is_fitted_on_the_tests(serving: Connection) -> None:
    found = [moment(serving, day, "calibration") for day in (0, 10, 20, 30)]
    tested = moment(serving, 60, "test")
    (before,) = serving.execute(REPORT).fetchall()
    assert before[:5] == (FIRST + timedelta(days=60), False, None, 2_000, int(tested.labels.sum()))
    assert before[5] == pytest.approx(calibration_error(tested.labels.astype(np.uint8), tested.scores))
    assert before[8] < before[6] < before[5] < before[7]
    plain = said(serving)
    assert serving.execute("select ubp.calibrate_model('purchase', 1)").fetchone() == (1,)
    expected = fitted([*found, tested]).map
    assert expected is not None
    ((_, method, x, y, n, cuts, metrics),) = serving.execute(MAPS).fetchall()
    assert (method, tuple(x), tuple(y), n, cuts) == (expected.method, expected.x, expected.y, 8_000, 4)
    assert set(metrics["log_loss"]) == {"none", "isotonic", "platt"}
    without, through = serving.execute(REPORT).fetchall()
    assert without == before[:9] + without[9:]
    assert through[1] is True
    assert through[2] is not None
    assert through[5] < 0.6 * without[5]
    assert said(serving) == plain  # until it is deployed
    serving.execute("select ubp.deploy_model('purchase', 1)")
    assert said(serving) == {u: s if s is None else expected.value(s) for u, s in plain.items()}


def test_nothing_of_the_future_is_in_the_map_that_is_tested(serving: Connection) -> None:
    """Moments whose outcomes end after a test say nothing at it."""
    for day in (0, 10, 20):
        moment(serving, day, "calibration", 1.0)
    moment(serving, 60, "test")
    serving.execute("select ubp.calibrate_model('purchase', 1, 'isotonic')")
    before = serving.execute(REPORT).fetchall()
    moment(serving, 31, "calibration", 0.1)
    serving.execute("select ubp.calibrate_model('purchase', 1, 'isotonic')")
    assert serving.execute(REPORT).fetchall() == before
    moment(serving, 30, "calibration", 0.1)
    serving.execute("select ubp.calibrate_model('purchase', 1, 'isotonic')")
    assert serving.execute(REPORT).fetchall() != before


def test_auto_keeps_scores_that_are_right(serving: Connection) -> None:
    for day in (0, 10, 20):
        moment(serving, day, "calibration", 1.0)
    notices: list[str] = []
    serving.add_notice_handler(lambda notice: notices.append(str(notice.message_primary)))
    assert serving.execute("select ubp.calibrate_model('purchase', 1)").fetchone() == (None,)
    assert "no map" in notices[0]
    assert serving.execute(MAPS).fetchall() == []
    assert serving.execute("select ubp.calibrate_model('purchase', 1, 'platt')").fetchone() == (1,)


def test_without_a_map_made_the_report_stays_that_of_the_map_before(serving: Connection) -> None:
    for day in (0, 10, 20):
        moment(serving, day, "calibration", 1.0)
    moment(serving, 60, "test", 1.0)
    assert serving.execute("select ubp.calibrate_model('purchase', 1)").fetchone() == (None,)
    assert [row[1] for row in serving.execute(REPORT)] == [False]
    serving.execute("select ubp.calibrate_model('purchase', 1, 'isotonic')")
    before = serving.execute(REPORT).fetchall()
    assert [row[1:3] for row in before] == [(False, None), (True, "isotonic")]
    assert serving.execute("select ubp.calibrate_model('purchase', 1)").fetchone() == (None,)
    assert serving.execute(REPORT).fetchall() == before


def test_reliability_is_of_the_rows(serving: Connection) -> None:
    tested = moment(serving, 0, "test")
    rows = serving.execute("select bin, n, mean_score, share, low, high from ubp.reliability order by bin").fetchall()
    order = np.argsort(tested.scores)
    for (number, n, score, share, low, high), part in zip(rows, np.array_split(order, 10), strict=True):
        p, z = tested.labels[part].mean(), 1.959963984540054
        middle = (p + z * z / (2 * len(part))) / (1 + z * z / len(part))
        width = z * np.sqrt(p * (1 - p) / len(part) + z * z / (4 * len(part) ** 2)) / (1 + z * z / len(part))
        assert (n, score, share) == (len(part), pytest.approx(tested.scores[part].mean()), pytest.approx(p)), number
        assert (low, high) == (pytest.approx(middle - width), pytest.approx(middle + width))


def test_what_cannot_be_calibrated(serving: Connection) -> None:
    refused(serving, "UB005", "select ubp.calibrate_model('purchase', 1)")
    refused(serving, "UB003", "select ubp.calibrate_model('purchase', 1, 'beta')")
    refused(serving, "UB003", "select ubp.calibrate_model('purchase', 1, null)")
    refused(serving, "UB004", "select ubp.calibrate_model('purchase', 9)")
    refused(serving, "UB001", "select ubp.calibrate_model('nothing')")
    moment(serving, 0, "test", -1.0)
    refused(serving, "UB003", "select ubp.calibrate_model('purchase', 1, 'platt')")


def test_a_measurement_can_be_cancelled(serving: Connection) -> None:
    moment(serving, 0, "test", n=200_000)
    serving.execute("set statement_timeout = '100ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        serving.execute("select ubp.calibrate_model('purchase', 1, 'isotonic')")


def test_training_holds_moments_out(shop_copy: Database) -> None:
    tests = shop_copy.rows("select part, cut, n from ubp.model_tests order by cut")
    assert [test["part"] for test in tests] == ["calibration"] * 3 + ["test"]
    assert tests[2]["cut"] + timedelta(days=30) <= tests[3]["cut"]
    report = shop_copy.rows(REPORT)
    assert [row["calibrated"] for row in report] == [False]  # auto made no map
    (row,) = shop_copy.rows("select value from ubp.model_metrics where metric = 'calibration_error'")
    assert report[0]["error"] == pytest.approx(row["value"])


def test_the_command(shop_copy: Database) -> None:
    dsn = ("--dsn", shop_copy.dsn)
    newest = "select map_id from ubp.deployments order by deployment_id desc limit 1"
    made = document("calibrate", "purchase", "--method", "platt", *dsn)
    assert (made["map_id"], made["method"], made["deployed"]) == (1, "platt", True)
    assert [test["calibrated"] for test in made["tests"]] == [False, True]
    assert shop_copy.one(newest) == 1
    (answers,) = document("model", "show", "purchase", *dsn)["serving"]
    assert (answers["version"], answers["map_id"], answers["map"]) == (1, 1, "platt")
    assert "platt" in told("model", "show", "purchase", *dsn)
    assert "without a map" in told("calibrate", "purchase", "--none", *dsn)
    assert shop_copy.one(newest) is None
    kept = document("calibrate", "purchase", "1", "--method", "isotonic", "--no-deploy", *dsn)
    assert (kept["map_id"], kept["deployed"]) == (2, False)
    assert shop_copy.one(newest) is None
    assert "has learnt from outcomes up to" in refusal("calibrate", "purchase", "--cut", "2025-06-01", *dsn)[2]
    assert "not wholly known yet" in refusal("calibrate", "purchase", "--cut", "2025-07-19", *dsn)[2]
    assert refusal("calibrate", "purchase", "--none", "--method", "platt", *dsn)[1] == "UB003"
    assert refusal("calibrate", "purchase", "--method", "beta", *dsn)[1] == "UB003"


def test_a_moment_after_the_training(shop_copy: Database) -> None:
    """A model that was trained long ago is calibrated on what came since."""
    shop_copy.execute("update ubp.models set data_until = '2025-05-20'")
    found = document("calibrate", "purchase", "--method", "platt", "--cut", "2025-06-10", "--dsn", shop_copy.dsn)
    assert found["method"] == "platt"
    (row,) = shop_copy.rows("select users, scores, labels from ubp.model_tests where cut = '2025-06-10 00:00+00'")
    users, scores = np.frombuffer(row["users"], "<i8"), np.frombuffer(row["scores"], "<f8")
    cut = datetime(2025, 6, 10, tzinfo=UTC)
    shop_copy.execute("select ubp.use_calibration('purchase', null)")
    for user, score in list(zip(users.tolist(), scores.tolist(), strict=True))[:20]:
        assert shop_copy.one("select ubp.predict('purchase', %s::bigint, %s)", user, cut) == score


def test_plans_of_calibration() -> None:
    """Each moment's model learns from outcomes that are known by then."""
    day, horizon = timedelta(days=10), timedelta(days=30)
    test = FIRST + 20 * day
    plan = [FIRST + k * day for k in range(18)]
    found = calibration_plans({test: plan}, horizon)
    assert list(found) == plan[-3:]
    for cut, earlier in found.items():
        assert max(earlier) + horizon == cut
        assert cut + horizon <= test
    assert calibration_plans({test: plan[-2:]}, horizon) == {}
    assert plan[-1] not in calibration_plans({test: plan, plan[-1]: plan[:-4]}, horizon)
