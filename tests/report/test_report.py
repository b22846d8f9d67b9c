"""`ubp-sql report` against a database: what is on the page, who may make it, and what is refused."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg import sql

from tests.cli.running import document, refusal, told
from tests.fix_cluster import Cluster
from tests.fix_database import Database, create, drop
from tests.report.document import Document
from tests.report.made import held_out

CUT = datetime(2025, 6, 20, tzinfo=UTC)
RECORD = "select ubp.record_test('purchase', 1, %s, 'test', %s, %s, %s, 'by hand')"
SURPRISE, MISSED = 17, 18


@pytest.fixture(scope="module")
def tested(shop: Database, cluster: Cluster):  # type: ignore[no-untyped-def]
    """The small shop, its model tested and studied. Read only."""
    made = create(cluster, shop.name)
    labels, scores = held_out(1_200)
    labels[SURPRISE - 1], scores[SURPRISE - 1] = 0, 0.999
    labels[MISSED - 1], scores[MISSED - 1] = 1, 0.001
    with made.connect() as conn:
        conn.execute("delete from ubp.model_tests")
        users = np.arange(1, 1_201, dtype="<i8")
        conn.execute(RECORD, [CUT, *(column.tobytes() for column in (users, scores, labels))])
        conn.execute("select ubp.study_model('purchase', sample => 100)")
    yield made
    drop(made)


def test_a_report(tested: Database, tmp_path: Path) -> None:
    to, folder = tmp_path / "report.html", tmp_path / "figures"
    said = told("report", "purchase", "-o", to, "--png", folder, "--dsn", tested.dsn)
    assert said.splitlines()[0].startswith(f"{to}: purchase version 1, ")
    page = Document(to.read_text())
    text = " ".join(page.text)
    assert len(to.read_bytes()) < 3_000_000
    assert "Of 1,200 users known on 20 June 2025" in text
    assert "at least one purchase" in text
    for title in ("ROC", "Precision and recall", "Calibration", "Lift", "Cumulative gain", "What matters most"):
        assert any(part.startswith(title) for part in page.text), title
    images = {path.stem for path in folder.iterdir()}
    assert images >= {"roc", "precision-recall", "gain", "lift", "calibration", "scores", "importance", "effect-1"}
    top = tested.rows(
        "select user_id, score from ubp.user_scores where task = 'purchase' order by score desc nulls last, user_id limit 1"
    )[0]
    key = tested.one("select user_key from ubp.users where user_id = %s", top["user_id"]) or str(top["user_id"])
    assert f"User {key}" in page.text
    assert f"User {SURPRISE}" in page.text
    assert f"User {MISSED}" in page.text
    assert "sklearn" not in text
    without = tested.one("select count(*) from ubp.user_scores where task = 'purchase' and score is null")
    assert f"{without:,} users without one" in text


def test_reasons_of_examples(tested: Database, tmp_path: Path) -> None:
    to = tmp_path / "report.html"
    told("report", "purchase", "-o", to, "--dsn", tested.dsn, "--examples", "3")
    page = Document(to.read_text())
    assert page.values("class").count("example") == 5
    user = tested.one(
        "select user_id from ubp.user_scores where task = 'purchase' order by score desc nulls last limit 1"
    )
    reasons = tested.rows("select meaning from ubp.explain_many('purchase', array[%s::bigint], 4) where rank > 0", user)
    assert len(reasons) >= 4
    for reason in reasons:
        assert any(part.strip() == reason["meaning"] for part in page.text), reason


def test_the_same_database_gives_the_same_page(tested: Database, tmp_path: Path) -> None:
    pages = [tmp_path / "one.html", tmp_path / "two.html"]
    found = [document("report", "purchase", "-o", page, "--dsn", tested.dsn) for page in pages]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert found[0]["users"] == 1_200
    assert found[0]["bytes"] == len(pages[0].read_bytes())
    assert found[0]["figures"] == []


def test_nobody_is_named_without_examples(tested: Database, tmp_path: Path) -> None:
    to = tmp_path / "report.html"
    for option in (["--no-examples"], ["--examples", "0"]):
        told("report", "purchase", "-o", to, "--dsn", tested.dsn, *option)
        page = Document(to.read_text())
        assert not any(part.strip().startswith("User ") for part in page.text)
        assert "examples" not in page.values("id")


def test_a_version_that_was_never_tested(tested: Database, tmp_path: Path) -> None:
    with tested.connect() as conn:
        conn.execute("select ubp.register_model('purchase', (select source from ubp.models where version = 1))")
    to = tmp_path / "report.html"
    told("report", "purchase", "-o", to, "--version", "2", "--dsn", tested.dsn)
    page = Document(to.read_text())
    text = " ".join(page.text)
    assert "No held-out users of version 2 are stored" in text
    assert "ubp-sql model study purchase 2" in text
    assert "svg" not in page.tags
    assert "Deployed since" not in text


def test_an_auditor_may_and_an_analyst_learns_who_may(tested: Database, tmp_path: Path) -> None:
    to = tmp_path / "report.html"
    with tested.connect() as conn:
        for role in ("ubp_auditor", "ubp_analyst"):
            name = sql.Identifier(f"report_{role}")
            conn.execute(sql.SQL("create role {} login").format(name))
            conn.execute(sql.SQL("grant {} to {}").format(sql.Identifier(role), name))
    try:
        told("report", "purchase", "-o", to, "--dsn", f"{tested.dsn} user=report_ubp_auditor")
        to.unlink()
        code, state, message = refusal("report", "purchase", "-o", to, "--dsn", f"{tested.dsn} user=report_ubp_analyst")
        assert (code, state) == (6, "42501")
        assert "ubp_auditor" in message
        assert not to.exists()
    finally:
        with tested.connect() as conn:
            for role in ("ubp_auditor", "ubp_analyst"):
                conn.execute(sql.SQL("drop role {}").format(sql.Identifier(f"report_{role}")))


def test_refusals(tested: Database, db: Database, tmp_path: Path) -> None:
    to, dsn = tmp_path / "report.html", ("--dsn", tested.dsn)
    assert refusal("report", "nothing", "-o", to, *dsn)[:2] == (2, "UB001")
    assert refusal("report", "purchase", "-o", to, "--version", "9", *dsn)[:2] == (4, "UB004")
    assert refusal("report", "purchase", "-o", to, "--examples", "-1", *dsn)[:2] == (2, "UB003")
    assert refusal("report", "purchase", "-o", to, "--examples", "61", *dsn)[:2] == (2, "UB003")
    code, state, message = refusal("report", "purchase", "-o", tmp_path / "no" / "folder.html", *dsn)
    assert (code, state) == (2, "UB003")
    assert "folder.html" in message
    assert refusal("report", "purchase", "-o", tmp_path, *dsn)[:2] == (2, "UB003")
    db.execute("select ubp.define_feature_set('default', array['purchase'])")
    db.execute("select ubp.define_task('purchase', 'purchase')")
    code, state, message = refusal("report", "purchase", "-o", to, "--dsn", db.dsn)
    assert (code, state) == (4, "UB004")
    assert "ubp-sql train purchase" in message
    assert not list(tmp_path.glob("*"))


def test_nothing_was_written(tested: Database, tmp_path: Path) -> None:
    """The report reads alone: the database's own refusal of a write would end it."""
    with tested.connect() as conn, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        conn.execute("set default_transaction_read_only = on")
        conn.execute("delete from ubp.user_scores")
    told(
        "report",
        "purchase",
        "-o",
        tmp_path / "r.html",
        "--dsn",
        f"{tested.dsn} options='-c default_transaction_read_only=on'",
    )
