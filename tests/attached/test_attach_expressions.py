"""Expressions of ubp.attach_source: what is taken and as what, what is refused and with which way out."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fix_database import Database, create, drop
from ubp_sql.embedded import Cluster

TABLE = """
create schema s;
create type s.mood as enum ('view', 'buy');
create domain s.sum as numeric check (value > 0);
create table s.t (
  id bigint primary key, i integer, si smallint, n numeric, n2 numeric(9, 2), f double precision, r real, u uuid,
  e s.mood, ts timestamp, tz timestamptz, d date, tx text, vc varchar(20), ch char(5), j jsonb, "user" text,
  "Select" integer, found integer, b boolean, arr integer[], iv interval, epoch bigint,
  g integer generated always as (1) stored);
insert into s.t (id, i, tz, d, ts, epoch) select g, g, now(), now()::date, now()::timestamp, 1700000000 + g
  from generate_series(1, 3) g;
create function s.theirs(integer) returns integer immutable language plpgsql as 'begin return 1/0; end';
"""
OF = """
select (regexp_match(r.detail, %s || ': (.*?)(; |$)'))[1] from ubp.attach_source(
  's.t', coalesce(%s, 'i'), coalesce(%s, 'tz'), coalesce(%s, '''x'''), item_id => %s, value => %s, ingested_at => %s,
  event_id => %s, time_zone => %s, filter => %s, dry_run => true) r where r.step = 'source'"""
ARGUMENTS = ("user_id", "event_time", "kind", "item_id", "value", "ingested_at", "event_id", "time_zone", "filter")


class Map:
    """A session that tries maps of s.t without attaching it."""

    def __init__(self, db: Database, conn: psycopg.Connection[Any]) -> None:
        self.db, self.conn = db, conn

    def of(self, name: str, text: str | None, **more: str) -> str | None:
        """What one argument becomes, the others being plain."""
        arguments = {name: text} | more
        values = [name, *(arguments.get(argument) for argument in ARGUMENTS)]
        row = self.conn.execute(OF, values).fetchone()
        return row[0] if row else None


@pytest.fixture(scope="module")
def maps(cluster: Cluster, installed: str) -> Iterator[Map]:
    made = create(cluster, installed)
    with made.connect() as conn:
        conn.execute(TABLE.encode())
        conn.execute("create role s_other")
        conn.execute("alter function s.theirs(integer) owner to s_other")
        yield Map(made, conn)
        conn.execute("drop owned by s_other; drop role s_other")
    drop(made)


WHOLE = (
    "case when ({0}) = trunc({0}) and ({0}) >= -9223372036854775808 and ({0}) < 9223372036854775808"
    " then ({0})::bigint end"
)
LOCAL = (
    "case when ({0}) >= '1899-12-01'::timestamp and ({0}) < '2300-02-01'::timestamp"
    " then ({0})::timestamp at time zone 'Asia/Tokyo' end"
)
TAKEN = [
    ("user_id", "i", "(i)::bigint (integer)"),
    ("user_id", "ID", "id (integer)"),
    ("user_id", "g", "(g)::bigint (integer)"),
    ("user_id", "n", WHOLE.format("n") + " (integer)"),
    ("user_id", "f", WHOLE.format("f") + " (integer)"),
    ("user_id", "tx", "tx (text)"),
    ("user_id", "vc", "(vc)::text (text)"),
    ("user_id", "u", "(u)::text (text)"),
    ("user_id", "'shop2-' || i", "('shop2-'::text || i) (text)"),
    ("user_id", '"user"', '"user" (text)'),
    ("user_id", "j ->> 'who'", "(j ->> 'who'::text) (text)"),
    ("item_id", '"Select"', '("Select")::bigint (integer)'),
    ("item_id", "ch", "(ch)::text (text)"),
    ("kind", "e", "(e)::text"),
    ("kind", "'a\\b'", "E'a\\\\b'::text"),
    ("kind", "case when b then 'a' else 'b' end", "\nCASE\n    WHEN b THEN 'a'::text\n    ELSE 'b'::text\nEND"),
    ("event_time", "tz", "tz"),
    ("event_time", "to_timestamp(epoch)", "to_timestamp((epoch)::double precision)"),
    ("event_time", "ts", LOCAL.format("ts")),
    ("event_time", "d", LOCAL.format("d")),
    ("event_time", "ts at time zone 'Europe/London'", "(ts AT TIME ZONE 'Europe/London'::text)"),
    ("event_time", "ubp.to_time(tx, 'DD/MM/YYYY')", "ubp.to_time(tx, 'DD/MM/YYYY'::text)"),
    ("value", "i", "(i)::double precision"),
    ("value", "f", "f"),
    ("value", "n2 * si", "case when abs((n2 * (si)::numeric)) < 1e308 then"
     " case when abs((n2 * (si)::numeric)) > 1e-300 then ((n2 * (si)::numeric))::double precision else 0 end end"),
    ("value", "n2", "(n2)::double precision"),
    ("event_id", None, "id (integer)"),
    ("event_id", "u", "(u)::text (text)"),
    ("filter", "tz > '2020-01-01' and b", "((tz > '2020-01-01 00:00:00+00'::timestamp with time zone) AND b)"),
]  # fmt: skip


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
def test_what_is_taken(maps: Map, zone: str) -> None:
    """The session's settings have no say."""
    with maps.conn.transaction(force_rollback=True):
        maps.conn.execute(f"set local timezone = '{zone}'; set local datestyle = 'German'".encode())
        if zone != "UTC":
            maps.conn.execute("set local intervalstyle = 'iso_8601'; set local quote_all_identifiers = on")
        for name, text, kept in TAKEN:
            more = {"time_zone": "Asia/Tokyo"} if text in ("ts", "d") else {}
            assert maps.of(name, text, **more) == kept, text


REFUSED = [
    ("user_id", "user", "SQL's own user", '"user", in double quotes'),
    ("user_id", "", "the expression is empty", "one SQL expression"),
    ("user_id", "nothing", 'column "nothing" does not exist', "columns are: id, i,"),
    ("user_id", "t.i", "missing FROM-clause entry", "without the name of their table"),
    ("user_id", "i; drop table s.t", "; is not allowed", "one SQL expression"),
    ("user_id", "i)::int, (i", ") closes nothing", "one SQL expression"),
    ("user_id", "i -- x", "comments are not allowed", "one SQL expression"),
    ("user_id", "(select 1)", "a query is not an expression", "one SQL expression"),
    ("user_id", "max(i)", "aggregate functions are not allowed", "one SQL expression"),
    ("user_id", "generate_series(1, 2)", "set-returning functions are not allowed", "one SQL expression"),
    ("user_id", "row_number() over ()", "window functions are not allowed", "one SQL expression"),
    ("user_id", "ctid::text", "system column", "one SQL expression"),
    ("user_id", "s.theirs(i)", "s.theirs(integer) belongs to s_other", "a generated column or a view of s.t"),
    ("user_id", "s.theirs(1)", "s.theirs(integer) belongs to s_other", "a generated column or a view of s.t"),
    ("user_id", "query_to_xml('select 1', true, true, '')::text", "query_to_xml", "a view of s.t"),
    ("user_id", "random()::int", "random()", "a view of s.t"),
    ("user_id", "arr", "of type integer[], neither", "::text"),
    ("user_id", "j -> 'who'", "of type jsonb, neither", "->> in place of ->"),
    ("user_id", "1 / (i - 1)", "division by zero", "case when"),
    ("user_id", "1 / 0", "division by zero", "one SQL expression"),
    ("user_id", "i" + " + i" * 600, "2,401 characters is too long", "one SQL expression"),
    ("event_time", "epoch", "of type bigint, not a time", "milliseconds: to_timestamp(epoch / 1000.0)"),
    ("event_time", "tx", "of type text, not a time", "ubp.to_time(column"),
    ("event_time", "tx::timestamptz", "another value in another session", "ubp.to_time(column"),
    ("event_time", "to_timestamp(tx, 'DD')", "to_timestamp(text,text)", "ubp.to_time(column"),
    ("event_time", "ts", "which hour that was depends on a time zone", "time_zone => 'UTC'"),
    ("event_time", "d", "which hour that was depends on a time zone", "time_zone => 'UTC'"),
    ("event_time", "now()", "now()", "the same value at any time"),
    ("event_time", "tz + interval '1 day'", "timestamptz_pl_interval", "at time zone 'UTC'"),
    ("kind", "purchase", 'column "purchase" does not exist', "kind => '''purchase'''"),
    ("kind", "i", "of type integer, neither", "(i)::text"),
    ("kind", "concat(tx, vc)", "concat(", "a || b"),
    ("value", "tx", "of type text, not a number", "(tx)::numeric"),
    ("value", "b", "of type boolean, not a number", "(b)::integer"),
    ("value", "iv", "of type interval, not a number", "extract(epoch from"),
    ("event_id", "f", "of type double precision, neither", "::text"),
    ("filter", "i", "of type integer, not true or false", "filter =>"),
    ("filter", "exists (table s.t)", "a query is not an expression", "one SQL expression"),
    ("time_zone", "Mars/Base", "unknown time zone", "pg_timezone_names"),
]


@pytest.mark.parametrize(("name", "text", "said", "hint"), REFUSED, ids=lambda part: part[:20])
def test_what_is_refused(maps: Map, name: str, text: str, said: str, hint: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        maps.of(name, text)
    assert caught.value.sqlstate == "UB003"
    assert said in str(caught.value.diag.message_primary)
    assert hint in str(caught.value.diag.message_hint)


@pytest.mark.parametrize("name", ["user_id", "event_time", "kind"])
def test_what_is_needed(maps: Map, name: str) -> None:
    arguments = ", ".join("null::text" if name == one else f"'{one}'" for one in ("user_id", "event_time", "kind"))
    with pytest.raises(psycopg.Error, match=f"{name} is NULL") as caught:
        maps.conn.execute(f"select ubp.attach_source('s.t', {arguments})".encode())
    assert caught.value.sqlstate == "UB003"


ATOMS = ["i", "id", "n", "tx", "tz", "ts", "j", '"user"', "b", "iv", "1", "-1", "'x'", "null", "2.5", "'it''s'"]
ODD = ["s.t", "*", "t.*", "ubp_row", "$1", "$$x$$", ";", "--", "/*", "'", '"', "E'\\'", "\\", "%s", "{}", "{user}", "é",
       "::regclass", "U&'\\0061'", "0x1", "1e400", "\u200b", "array[1]", "row(1, 2)", "ubp.event_log"]  # fmt: skip
CALLS = ["lower({})", "({})::text", "({})::bigint", "({})::timestamptz", "coalesce({}, {})", "({}) + ({})", "({})[1]",
         "({}) = ({})", "case when {} then {} end", "to_timestamp({})", "ubp.to_time({}, {})", "now() - ({})", "({}).x",
         "({}) is null", "not ({})", "extract(epoch from {})", "max({})", "({}) || ({})", "array({})", "any({})",
         "({}) over ()", "select {}"]  # fmt: skip


def expressions() -> st.SearchStrategy[str]:
    leaves = st.sampled_from(ATOMS + ATOMS + ODD) | st.text(max_size=8)
    return st.recursive(
        leaves,
        lambda inner: st.builds(
            lambda form, *parts: form.replace("{}", "\0").replace("\0", parts[0], 1).replace("\0", parts[1]),
            st.sampled_from(CALLS),
            inner,
            inner,
        ),
        max_leaves=6,
    )


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(name=st.sampled_from(ARGUMENTS), text=expressions())
def test_whatever_is_written_is_taken_or_refused_in_a_line(maps: Map, name: str, text: str) -> None:
    error: psycopg.Error | None = None
    kept: str | None = None
    try:
        kept = maps.of(name, text, **({} if name == "time_zone" else {"time_zone": "UTC"}))
    except psycopg.DataError:  # a NUL, which no text of PostgreSQL holds
        pass
    except psycopg.Error as caught:
        error = caught
    if error is None:
        assert kept is not None or name == "time_zone" or "\0" in text
    else:
        assert error.sqlstate == "UB003", (text, error)
        assert "Traceback" not in str(error.diag.message_primary)
        assert error.diag.message_hint


ZONES = [
    ("02/03/2024 10:30", "DD/MM/YYYY HH24:MI", "Europe/London", "2024-03-02 10:30+00"),
    ("02/07/2024 10:30", "DD/MM/YYYY HH24:MI", "Europe/London", "2024-07-02 09:30+00"),
    ("2024-07-02T10:30:00Z", None, "Asia/Tokyo", "2024-07-02 10:30+00"),
    ("2024-07-02 10:30:00+02:00", None, "Asia/Tokyo", "2024-07-02 08:30+00"),
    ("2024-07-02 10:30", None, "Asia/Tokyo", "2024-07-02 01:30+00"),
    ("2024-07-02", None, "UTC", "2024-07-02 00:00+00"),
    ("2024-07-02 10:30 +0200", "YYYY-MM-DD HH24:MI TZHTZM", "Asia/Tokyo", "2024-07-02 08:30+00"),
    ("31/02/2024", "DD/MM/YYYY", "UTC", None),
    ("", None, "UTC", None),
    ("soon", None, "UTC", None),
    ("2024-07-02", "DD/MM/YYYY", "UTC", None),
    (None, None, "UTC", None),
]


@pytest.mark.parametrize(("text", "form", "zone", "time"), ZONES)
@pytest.mark.parametrize("session", ["UTC", "America/New_York"])
def test_to_time(maps: Map, text: str | None, form: str | None, zone: str, time: str | None, session: str) -> None:
    with maps.conn.transaction(force_rollback=True):
        maps.conn.execute(f"set local timezone = '{session}'; set local datestyle = 'SQL, DMY'".encode())
        row = maps.conn.execute(
            "select ubp.to_time(%s, %s, %s) is not distinct from %s::text::timestamptz",
            [text, form, zone, time],
        ).fetchone()
    assert row == (True,)
