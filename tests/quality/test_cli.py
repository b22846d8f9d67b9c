"""`ubp-sql quality`, as a person and a script meet it; a check that somebody cancels."""

import threading
import time

import psycopg
import pytest

from tests.cli.running import document, refusal, told
from tests.fix_database import Database
from tests.quality.logs import add, feed


def test_check_report_findings_rules_and_dismiss(db: Database) -> None:
    with db.connect() as conn:
        feed(conn, every="30 minutes")
        add(conn, "values (1, '2025-02-05 12:10+00', 'view', 1, 5.0), (1, '2025-02-05 12:10+00', 'view', 1, 5.0)")
    rows = {row["rule_name"]: row for row in document("quality", "check", "--dsn", db.dsn)}
    assert len(rows) == 7
    assert (rows["duplicates"]["findings"], rows["duplicates"]["events"]) == (1, 1)
    assert "duplicates" in told("quality", "check", "--since", "2025-01-01", "--rule", "duplicates", "--dsn", db.dsn)
    report = told("quality", "report", "--dsn", db.dsn)
    assert report.startswith("low · duplicates · direct, 2025-02-05\n  1 event")
    assert document("quality", "report", "--dsn", db.dsn)[0]["bad"] == "low"
    (finding,) = document("quality", "findings", "--dsn", db.dsn)
    told("quality", "findings", "--rule", "gaps", "--dsn", db.dsn)
    assert "gaps" in told("quality", "rules", "--dsn", db.dsn)
    told("quality", "dismiss", str(finding["finding_id"]), "--dsn", db.dsn)
    assert document("quality", "findings", "--dsn", db.dsn) == []
    told("quality", "dismiss", str(finding["finding_id"]), "--undo", "--dsn", db.dsn)
    assert refusal("quality", "check", "--rule", "nope", "--dsn", db.dsn)[:2] == (4, "UB005")
    assert refusal("quality", "check", "--since", "soon", "--dsn", db.dsn)[0] == 2
    assert refusal("quality", "dismiss", "4711", "--dsn", db.dsn)[:2] == (2, "UB003")


@pytest.mark.slow
def test_a_check_of_a_million_events_can_be_cancelled_at_any_time(db: Database) -> None:
    with db.connect() as conn:
        feed(conn, begin="2024-01-01 00:00+00", until="2024-12-30 00:00+00", every="30 seconds")
        conn.execute("select * from ubp.build_mirror()")
        takes = 0.0
        for _ in range(2):  # the first one loads what the second one has
            started = time.perf_counter()
            conn.execute("select * from ubp.check_quality()")
            takes = time.perf_counter() - started
        late = []
        for place in range(1, 20):
            after = takes * place / 20
            timer = threading.Timer(after, conn.cancel)
            timer.start()
            begun = time.perf_counter()
            try:
                conn.execute("select * from ubp.check_quality()")
            except psycopg.errors.QueryCanceled:
                late.append(time.perf_counter() - begun - after)
            timer.join()
        assert len(late) >= 10
        assert sorted(late)[len(late) // 2] < 0.15, late
