"""`ubp-sql report` against a database: what is on the page, who may make it, and what is refused."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from psycopg import sql

from tests.cli.running import document, refusal, told
from tests.fix_database import Database, create, drop
from tests.report.document import Document
from tests.report.made import held_out
from ubp_sql.embedded import Cluster

CUT = datetime(2025, 6, 20, tzinfo=UTC)
RECORD = "select ubp.record_test('purchase', 1, %s, 'test', %s, %s, %s, 'by hand')"
KNOWN = "select distinct user_id from ubp.events where kind = 'purchase' and event_time < %s order by 1"
TOP = "select user_id from ubp.user_scores where score is not null order by score desc, user_id limit 1"
READ_ONLY = "options='-c default_transaction_read_only=on'"


@pytest.fixture(scope="module")
def tested(shop: Database, cluster: Cluster) -> Iterator[Database]:
    """The small shop, its model tested on users of whom two are surprises, and studied. Read only."""
    made = create(cluster, shop.name)
    with made.connect() as conn:
        users = np.array([user for (user,) in conn.execute(KNOWN, [CUT])], "<i8")
        labels, scores = held_out(len(users))
        labels[0], scores[0] = 0, 0.999
        labels[1], scores[1] = 1, 0.001
        conn.execute("delete from ubp.model_tests")
        conn.execute(RECORD, [CUT, *(column.tobytes() for column in (users, scores, labels))])
        conn.execute("select ubp.study_model('purchase', sample => 100)")
        conn.execute("select ubp.register_model('purchase', (select source from ubp.models where version = 1))")
    yield made
    drop(made)


@pytest.fixture(scope="module")
def written(tested: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report, report.html, and its figures."""
    folder = tmp_path_factory.mktemp("report")
    to = folder / "report.html"
    options = ("--png", folder / "figures", "--gain", "40", "--cost", "5")
    said = told("report", "purchase", "-o", to, *options, "--dsn", tested.dsn)
    assert said.splitlines()[0].startswith(f"{to}: purchase version 1, ")
    return folder


def test_a_report(tested: Database, written: Path) -> None:
    page = Document((written / "report.html").read_text())
    text = " ".join(page.text)
    assert (written / "report.html").stat().st_size < 3_000_000
    users = [row["user_id"] for row in tested.rows(KNOWN, CUT)]
    assert f"Of {len(users):,} users known on 20 June 2025" in text
    assert "an event of kind purchase within 30 days" in text
    for title in ("ROC", "Precision and recall", "Calibration", "Lift", "Cumulative gain", "What matters most"):
        assert any(part.startswith(title) for part in page.text), title
    images = {path.stem for path in (written / "figures").iterdir()}
    assert images >= {
        "roc",
        "precision-recall",
        "gain",
        "lift",
        "calibration",
        "scores",
        "profit",
        "importance",
        "effect-1",
    }
    for user in (tested.one(TOP), *users[:2]):
        key = tested.one("select user_key from ubp.users where user_id = %s", user) or user
        assert f"User {key}" in page.text
    without = tested.one("select count(*) from ubp.user_scores where task = 'purchase' and score is null")
    assert f"{without:,} users without one" in text


def test_reasons_of_examples(tested: Database, written: Path) -> None:
    page = Document((written / "report.html").read_text())
    assert page.values("class").count("example") == 10
    said = {part.strip() for part in page.text}
    now = tested.rows(
        "select meaning from ubp.explain_many('purchase', array[%s::bigint], 4) where rank > 0", tested.one(TOP)
    )
    then = tested.rows(
        "select meaning from ubp.explain('purchase', %s, %s, 4) where rank > 0", tested.one(KNOWN, CUT), CUT
    )
    for reasons in (now, then):
        assert len(reasons) >= 4
        assert {row["meaning"] for row in reasons} <= said


def test_an_auditor_may_an_analyst_learns_who_may(tested: Database, written: Path, tmp_path: Path) -> None:
    """The auditor's page, by a session that may write nothing, is the first one's to the byte."""
    to, roles = tmp_path / "report.html", ("ubp_auditor", "ubp_analyst")
    with tested.connect() as conn:
        for role in roles:
            conn.execute(sql.SQL("create role {} login").format(sql.Identifier(f"report_{role}")))
            conn.execute(sql.SQL("grant {} to {}").format(sql.Identifier(role), sql.Identifier(f"report_{role}")))
    try:
        code, state, message = refusal("report", "purchase", "-o", to, "--dsn", f"{tested.dsn} user=report_ubp_analyst")
        assert (code, state) == (6, "42501")
        assert "ubp_auditor" in message
        assert not to.exists()
        dsn = f"{tested.dsn} user=report_ubp_auditor {READ_ONLY}"
        found = document("report", "purchase", "-o", to, "--gain", "40", "--cost", "5", "--dsn", dsn)
        assert to.read_bytes() == (written / "report.html").read_bytes()
        assert (found["bytes"], found["figures"]) == (to.stat().st_size, [])
    finally:
        with tested.connect() as conn:
            for role in roles:
                conn.execute(sql.SQL("drop role {}").format(sql.Identifier(f"report_{role}")))


def test_nobody_is_named_without_examples(tested: Database, tmp_path: Path) -> None:
    to = tmp_path / "report.html"
    told("report", "purchase", "-o", to, "--dsn", tested.dsn, "--no-examples")
    page = Document(to.read_text())
    assert not any(part.strip().startswith("User ") for part in page.text)
    assert "examples" not in page.values("id")


def test_a_version_that_was_never_tested(tested: Database, tmp_path: Path) -> None:
    to = tmp_path / "report.html"
    told("report", "purchase", "-o", to, "--version", "2", "--dsn", tested.dsn)
    page = Document(to.read_text())
    text = " ".join(page.text)
    assert "No held-out users of version 2 are stored" in text
    assert "ubp-sql model study purchase 2" in text
    assert "svg" not in page.tags
    assert "examples" not in page.values("id")
    assert "Deployed since" not in text


def test_refusals(tested: Database, db: Database, tmp_path: Path) -> None:
    to, dsn = tmp_path / "report.html", ("--dsn", tested.dsn)
    assert refusal("report", "nothing", "-o", to, *dsn)[:2] == (2, "UB001")
    assert refusal("report", "purchase", "-o", to, "--version", "9", *dsn)[:2] == (4, "UB004")
    assert refusal("report", "purchase", "-o", to, "--examples", "-1", *dsn)[:2] == (2, "UB003")
    assert refusal("report", "purchase", "-o", to, "--examples", "61", *dsn)[:2] == (2, "UB003")
    for money in (("--gain", "40"), ("--cost", "5"), ("--gain", "-1", "--cost", "5"), ("--gain", "1", "--cost", "nan")):
        assert refusal("report", "purchase", "-o", to, *money, *dsn)[:2] == (2, "UB003")
    version = ("--version", "2", *dsn)
    assert refusal("report", "purchase", "-o", tmp_path, *version)[:2] == (2, "UB003")
    code, state, message = refusal("report", "purchase", "-o", tmp_path / "no" / "folder.html", *version)
    assert (code, state) == (2, "UB003")
    assert "folder.html" in message
    db.execute("select ubp.define_feature_set('default', array['purchase'])")
    db.execute("select ubp.define_task('purchase', 'purchase')")
    code, state, message = refusal("report", "purchase", "-o", to, "--dsn", db.dsn)
    assert (code, state) == (4, "UB004")
    assert "ubp-sql train purchase" in message
    assert not list(tmp_path.glob("*"))
