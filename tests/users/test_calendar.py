"""Holidays and seasons by `ubp-sql calendar`: what is filled in, again, by region, and out again; bad input."""

import sys
from datetime import date

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.cli.running import document, refusal, told
from tests.fix_database import Database
from ubp_sql.errors import BadInput
from ubp_sql.sources import calendar_days

ENGLAND = ("calendar", "fill", "--country", "GB", "--subdivision", "ENG", "--years", "2010-2012")
STALE = "select array_agg(name order by name) from ubp.feature_sets where stale"
DAYS = "select day from ubp.calendar where kind = 'holiday' order by day"


def test_fill_again_and_out_again(db: Database) -> None:
    db.execute("insert into ubp.calendar (day, name) values ('2011-04-29', 'Our anniversary')")
    dsn = ("--dsn", db.dsn)
    assert document(*ENGLAND, "--dry-run", *dsn)[0]["new"] == 31
    assert db.one("select count(*) from ubp.calendar") == 1
    first = told(*ENGLAND, "--region", "Europe/London", *dsn)
    assert "+ 2011-04-29  Wedding of William and Catherine" in first
    assert "holidays GB-ENG: 31 days, 31 of them are new" in first
    assert told(*ENGLAND, "--region", "Europe/London", *dsn) == "holidays GB-ENG: 31 days, 0 of them are new\n"
    assert document(*ENGLAND, *dsn)[0]["new"] == 31, "for all regions"
    assert [row["days"] for row in document("calendar", "list", *dsn)] == [1, 31, 31]
    out = ("calendar", "remove", "--country", "gb", "--subdivision", "eng")
    assert document(*out, "--years", "2011", "--dry-run", *dsn)[0]["days"] == 11
    assert document(*out, "--years", "2011", *dsn)[0]["days"] == 11
    assert document(*out, *dsn)[0]["days"] == 20
    assert document(*out, "--region", "Europe/London", *dsn)[0]["days"] == 31
    assert db.rows("select name from ubp.calendar") == [{"name": "Our anniversary"}]


def test_seasons_are_no_holidays(db: Database) -> None:
    with db.connect() as conn:
        conn.execute(
            "insert into ubp.events (user_id, event_time, kind, ingested_at)"
            " select 1, d, 'view', d from generate_series(timestamptz '2011-12-20', '2011-12-31', interval '1 day') d"
        )
        conn.execute("select ubp.define_feature('on_holidays', 'holiday_share', array['view'])")
        conn.execute("select ubp.define_feature('plain', 'count', array['view'], feature_set => 'other')")
    told("calendar", "fill", "--seasons", "north", "--years", "2011-2012", "--dsn", db.dsn)
    told(*ENGLAND, "--dsn", db.dsn)
    assert db.one("select count(*) from ubp.calendar where kind = 'season'") == 365 + 366
    assert db.one("select name from ubp.calendar where kind = 'season' and day = '2012-02-29'") == "winter"
    share = "select value from ubp.features(1, '2012-01-01 00:00+00')"
    assert db.one(share) == pytest.approx(3 / 12)
    db.execute("select * from ubp.refresh_features('2012-01-01 00:00+00')")
    assert db.one("select on_holidays from ubp.user_features") == pytest.approx(3 / 12)
    oracle = db.one("select sql_oracle from ubp.feature_catalogue where feature = 'on_holidays'")
    assert [float(list(row.values())[-1]) for row in db.rows(oracle)] == [pytest.approx(3 / 12)]
    assert "other" in db.one(STALE)
    assert "default" not in db.one(STALE)
    told(*ENGLAND, "--dsn", db.dsn)
    assert "default" not in db.one(STALE), "nothing came, so nobody is computed anew"
    told("calendar", "remove", "--country", "GB", "--subdivision", "ENG", "--years", "2030", "--dsn", db.dsn)
    assert "default" not in db.one(STALE)
    told("calendar", "remove", "--country", "GB", "--subdivision", "ENG", "--dsn", db.dsn)
    assert "default" in db.one(STALE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--country", "XX", "--years", "2011"), "unknown country 'XX'"),
        (("--country", "", "--years", "2011"), "which days?"),
        (("--country", "GB", "--subdivision", "BY", "--years", "2011"), "GB has no part 'BY' hint: it has ENG"),
        (("--country", "GB", "--category", "bank", "--years", "2011"), "no category 'bank' for GB"),
        (("--country", "GB", "--language", "tlh", "--years", "2011"), "no language 'tlh' for GB"),
        (("--country", "GB", "--years", "2012-2010"), "end before they begin hint: 2010-2012"),
        (("--country", "GB", "--years", "1-10000"), "events are of 1900 to 2299"),
        (("--country", "GB", "--years", "1900-2299"), "400 years are too many"),
        (("--country", "GB", "--years", "9" * 400), "events are of 1900 to 2299"),
        (("--country", "GB", "--years", "two"), "'two' are no years"),
        (("--country", "GB", "--years", "2250"), "knows no holidays of GB"),
        (("--seasons", "east", "--years", "2011"), "no hemisphere hint: north or south"),
        (("--subdivision", "ENG", "--years", "2011"), "which days?"),
        (("--country", "GB", "--years", "2011", "--region", "London"), "unknown time zone 'London'"),
    ],
)
def test_what_cannot_be_filled_in(keyed_template: Database, arguments: tuple[str, ...], message: str) -> None:
    code, sqlstate, text = refusal("calendar", "fill", *arguments, "--dsn", keyed_template.dsn)
    assert (code, sqlstate) == (2, "UB003")
    assert message in text
    assert keyed_template.one("select count(*) from ubp.calendar") == 0


def test_without_the_package(keyed_template: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "holidays", None)
    _, _, text = refusal(*ENGLAND, "--dsn", keyed_template.dsn)
    assert "pip install 'ubp_sql[calendar]'" in text
    told("calendar", "fill", "--seasons", "south", "--years", "2011", "--dry-run", "--dsn", keyed_template.dsn)


def test_seasons_of_both_hemispheres() -> None:
    for hemisphere, names in (("north", "winter spring summer autumn"), ("south", "summer autumn winter spring")):
        found = dict(calendar_days.seasons_of(hemisphere, range(2011, 2013)).days)
        firsts = [date(2011, 12, 1), date(2012, 3, 1), date(2012, 6, 1), date(2012, 9, 1)]
        assert [found[day] for day in firsts] == names.split()
        assert found[date(2012, 2, 29)] == found[date(2011, 1, 1)] == found[date(2012, 12, 31)] == names.split()[0]
        assert len(found) == 365 + 366


@given(st.text(max_size=12) | st.from_regex(r"[0-9]{1,5}-?[0-9]{0,5}", fullmatch=True))
@example("²011")
def test_any_text_is_years_or_is_refused(text: str) -> None:
    try:
        years = calendar_days.years_of(text)
    except BadInput:
        return
    assert 1 <= len(years) <= calendar_days.MOST_YEARS
    assert {str(years.start), str(years.stop - 1)} <= {str(int(part)) for part in text.strip().split("-")}


def test_a_downgrade_keeps_one_holiday_a_day(db: Database) -> None:
    from ubp_sql.install import commands

    db.execute(
        "insert into ubp.calendar (day, name, kind) values"
        " ('2011-01-01', 'New Year', 'holiday'), ('2011-01-01', 'Another', 'holiday'),"
        " ('2011-01-01', 'A winter', 'season'), ('2011-01-02', 'winter', 'season')"
    )
    with db.connect() as conn:
        commands.downgrade(conn, "0013", run=True)
        assert db.rows("select day::text, name from ubp.calendar") == [{"day": "2011-01-01", "name": "Another"}]
        commands.apply(conn)
    assert db.one(DAYS) == date(2011, 1, 1)
