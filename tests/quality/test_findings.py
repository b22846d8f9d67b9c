"""What becomes of findings and flags from check to check, and of rules that are rows."""

from typing import Any

import psycopg
import pytest

from tests.api.helpers import refused
from tests.fix_database import Database
from tests.quality.logs import add, check, feed, flags, found

TWICE = "values (1, '2025-02-05 12:00+00', 'view', 1, 5.0), (1, '2025-02-05 12:00+00', 'view', 1, 5.0)"
FINDINGS = "select finding_id, events, resolved_at is null, dismissed_at is null from ubp.quality_findings order by 1"


def test_a_finding_is_updated_resolved_and_opened_again(db: Database) -> None:
    with db.connect() as conn:
        first, second = add(conn, TWICE)
        assert check(conn) == {"duplicates": (1, 1, 0, 1)}
        ((number, *_),) = conn.execute(FINDINGS).fetchall()
        assert check(conn) == {"duplicates": (1, 0, 0, 1)}, "nothing piles up"
        third, fourth = add(conn, TWICE)
        assert check(conn) == {"duplicates": (1, 0, 0, 3)}
        assert flags(conn, "duplicates") == [second, third, fourth]
        conn.execute("delete from ubp.events where event_id <> %s", [first])
        assert check(conn) == {"duplicates": (0, 0, 1, 0)}
        assert conn.execute(FINDINGS).fetchall() == [(number, 3, False, True)], "resolved, not deleted"
        assert flags(conn, "duplicates") == []
        add(conn, TWICE)
        assert check(conn) == {"duplicates": (1, 1, 0, 2)}
        assert conn.execute(FINDINGS).fetchall() == [(number, 2, True, True)], "the same one again"


def test_since_leaves_earlier_findings_alone(db: Database) -> None:
    with db.connect() as conn:
        add(conn, TWICE)
        check(conn)
        conn.execute("delete from ubp.events")
        assert check(conn, since="2025-03-01 00:00+00") == {}
        assert len(flags(conn, "duplicates")) == 1
        add(conn, TWICE.replace("1,", "2,"))
        conn.execute("delete from ubp.flagged_events")
        conn.execute("delete from ubp.quality_findings")
        assert check(conn, since="2025-03-01 00:00+00") == {}, "a new one of before is not made either"
        assert check(conn, since="2025-02-01 00:00+00") == {"duplicates": (1, 1, 0, 1)}


def test_a_dismissed_finding_flags_nothing_until_that_is_undone(db: Database) -> None:
    with db.connect() as conn:
        add(conn, TWICE)
        check(conn)
        ((number, *_),) = conn.execute(FINDINGS).fetchall()
        conn.execute("select ubp.dismiss_finding(%s)", [number])
        assert flags(conn, "duplicates") == []
        check(conn)
        assert flags(conn, "duplicates") == []
        assert conn.execute("select rule from ubp.data_quality").fetchall() == [("last check",)]
        conn.execute("select ubp.dismiss_finding(%s, false)", [number])
        check(conn)
        assert len(flags(conn, "duplicates")) == 1
        refused(conn, "UB003", "select ubp.dismiss_finding(4711)")
        refused(conn, "UB003", "select ubp.dismiss_finding(null)")


def test_a_rule_that_is_switched_off_lets_go_of_what_it_found(db: Database) -> None:
    with db.connect() as conn:
        add(conn, TWICE)
        check(conn)
        conn.execute("update ubp.quality_rules set active = false where rule = 'duplicates'")
        assert check(conn) == {"duplicates": (0, 0, 1, 0)}
        error = refused(conn, "UB005", "select ubp.check_quality(null, 'duplicates')")
        assert "not active" in str(error)


def test_own_rules_by_function_and_by_row(db: Database) -> None:
    with db.connect() as conn:
        conn.execute("insert into ubp.sources (source_id, name) values (5, 'shop')")
        columns = "user_id, event_time, kind, item_id, value, source"
        for source in (0, 5):
            at = "timestamptz '2025-02-05' + g * interval '500 ms'"
            add(conn, f"select 1, {at}, 'view', g + {source}, 1.0, {source} from generate_series(1, 60) g", columns)
        assert check(conn) == {}
        settings = """{"windows": [{"seconds": 20, "events": 30}]}"""
        conn.execute("select ubp.define_quality_rule('fast', 'rate', %s, 'shop', 'half a second')", [settings])
        assert check(conn) == {"fast": (1, 1, 0, 60)}
        assert found(conn, "fast")[0]["source"] == 5
        conn.execute(
            "insert into ubp.quality_rules (rule, check_name, settings, meaning) values ('fast_2', 'rate', %s, 'x')",
            [settings],
        )
        assert check(conn) == {"fast": (1, 0, 0, 60), "fast_2": (1, 1, 0, 120)}
        conn.execute("select ubp.define_quality_rule('fast', 'rate', %s, 'shop', active => false)", [settings])
        assert check(conn, "fast_2") == {"fast_2": (1, 0, 0, 120)}
        assert check(conn) == {"fast": (0, 0, 1, 0), "fast_2": (1, 0, 0, 120)}


BAD = [
    ("'Bad name', 'gaps'", "no name"),
    ("null, 'gaps'", "no name"),
    ("'x', 'nonsense'", "there is no check 'nonsense'"),
    ("'x', null", "there is no check"),
    ("'x', 'gaps', '[]'", "no object"),
    ("""'x', 'gaps', '{"hour": 3}'""", "no setting 'hour'"),
    ("""'x', 'gaps', '{"hours": 0}'""", "hours cannot be 0"),
    ("""'x', 'gaps', '{"hours": 2.5}'""", "hours cannot be 2.5"),
    ("""'x', 'gaps', '{"hours": true}'""", "hours cannot be"),
    ("""'x', 'gaps', '{"quiet": ["24-12..26-12"]}'""", "quiet cannot be"),
    ("""'x', 'outliers', '{"columns": ["price"]}'""", "columns cannot be"),
    ("""'x', 'outliers', '{"score": 1e999}'""", "score cannot be"),
    ("""'x', 'outliers', '{"score": null}'""", "score cannot be"),
    ("""'x', 'rate', '{"windows": []}'""", "windows cannot be"),
    ("""'x', 'rate', '{"windows": [{"seconds": 10}]}'""", "windows cannot be"),
    ("""'x', 'rate', '{"windows": [{"seconds": 10, "events": 5, "step": 9}]}'""", "windows cannot be"),
    ("'x', 'gaps', '{}', 'no such source'", "no source 'no such source'"),
    ("'x', 'sql', '{}'", "needs the setting expression"),
]


def test_rules_that_cannot_be(db: Database) -> None:
    with db.connect() as conn:
        for arguments, said in BAD:
            error = refused(conn, "UB003", f"select ubp.define_quality_rule({arguments})")
            assert said in str(error), error
        refused(conn, "UB005", "select ubp.check_quality(null, 'nope')")
        for row in ("'x', 'nonsense', '{}', 'm'", "'X', 'gaps', '{}', 'm'", "'x', 'gaps', '[]', 'm'"):
            with pytest.raises(psycopg.errors.CheckViolation):
                conn.execute(
                    f"insert into ubp.quality_rules (rule, check_name, settings, meaning) values ({row})".encode()
                )
        conn.execute("update ubp.quality_rules set settings = '{\"hours\": -1}' where rule = 'gaps'")
        error = refused(conn, "UB003", "select ubp.check_quality()")
        assert "rule 'gaps': hours cannot be -1" in str(error)


def test_shipped_rules_say_what_is_so_anyway(db: Database) -> None:
    from ubp_sql.api.quality_rules import CHECKS

    for row in db.rows("select rule, check_name, settings from ubp.quality_rules"):
        assert row["settings"] == {name: setting.default for name, setting in CHECKS[row["check_name"]].items()}, row


def test_who_may(db: Database) -> None:
    with db.connect() as conn:
        add(conn, TWICE)

        def as_role(role: str, query: str) -> Any:
            with conn.transaction(force_rollback=True):
                conn.execute(f"set local role {role}".encode())
                return conn.execute(query.encode()).fetchall()

        assert len(as_role("ubp_loader", "select * from ubp.check_quality()")) == 7
        for role in ("ubp_analyst", "ubp_auditor"):
            assert as_role(role, "select * from ubp.data_quality")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                as_role(role, "select * from ubp.check_quality()")
        as_role("ubp_admin", "select ubp.define_quality_rule('x', 'gaps')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            as_role("ubp_loader", "select ubp.define_quality_rule('x', 'gaps')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            as_role("ubp_analyst", "select * from ubp.flagged_events")


def test_the_report_reads_like_one(db: Database) -> None:
    with db.connect() as conn:
        assert conn.execute("select bad, rule, report from ubp.data_quality").fetchall() == [
            ("medium", "last check", "nobody has looked yet\n-> select * from ubp.check_quality()")
        ]
        feed(conn)
        conn.execute("insert into ubp.events (user_id, event_time, kind) values (1, now() + interval '1 year', 'x')")
        add(conn, TWICE)
        conn.execute(
            "insert into ubp.rejected_events (load_id, source_id, file, line, reason)"
            " select 1, 0, 'shop.csv', g, case when g > 3 then 'no user key' else 'no time' end"
            " from generate_series(2, 9) g"
        )
        check(conn)
        rows = conn.execute("select bad, rule, source, since::text, report from ubp.data_quality").fetchall()
    assert [row[:3] for row in rows] == [
        ("high", "impossible_times", "direct"),
        ("low", "duplicates", "direct"),
        ("low", "rejected rows", "direct"),
        ("", "last check", ""),
    ]
    assert rows[1][3] == "2025-02-05"
    assert "e.g. event" in rows[1][4]
    assert "no user key (6), no time (2) e.g. shop.csv, line 4 -> " in " ".join(rows[2][4].split())
    assert max(len(line) for row in rows for line in row[4].splitlines()) <= 58


def test_a_condition_of_ones_own(db: Database) -> None:
    define = "select ubp.define_quality_rule('odd', 'sql', jsonb_build_object('expression', %s::text), meaning => 'm')"
    with db.connect() as conn:
        first, _ = add(
            conn, "values (1, '2025-02-05 12:00+00', 'buy', 1, -5.0), (2, '2025-02-05 12:00+00', 'buy', 1, 5.0)"
        )
        conn.execute(define, ["value < 0 and kind = 'buy'"])
        assert check(conn) == {"odd": (1, 1, 0, 1)}
        assert flags(conn, "odd") == [first]
        for text in (
            "value <",
            "value",
            "price > 3",
            "value < random()",
            "event_time < now()",
            "value < (select 1)",
            "count(*) > 1",
            "true); drop table ubp.events; --",
            "ubp.array_image(array[1]) is null",
            "pg_read_file('x') is null",
            "value < 0 -- and",
            "x" * 3000,
            "",
        ):
            refused(
                conn,
                "UB003",
                "select ubp.define_quality_rule('b', 'sql', jsonb_build_object('expression', $a$"
                + text
                + "$a$::text))",
            )
        conn.execute(define, ["1 / (value + 5)::integer > 0"])
        assert "division by zero" in str(refused(conn, "UB003", "select ubp.check_quality()"))
