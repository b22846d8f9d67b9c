"""Each check on a small log: what it finds, and what it must leave alone."""

import math

import pytest

from tests.fix_database import Database
from tests.quality.logs import add, check, feed, flags, found

NOON = "2025-02-05 12:00:00+00"


def test_nothing_one_event_and_a_few(db: Database) -> None:
    with db.connect() as conn:
        assert check(conn) == {}
        add(conn, f"values (1, '{NOON}', 'view', 1, 5.0)")
        assert check(conn) == {}
        add(
            conn,
            "select g, timestamptz '2025-02-05' + g * interval '1 day', 'view', 1, 1e300 from generate_series(1, 9) g",
        )
        assert check(conn) == {}


def test_duplicates_are_all_but_the_first(db: Database) -> None:
    columns = "user_id, event_time, kind, item_id, value, quantity, duration_s, attributes, ingested_at"
    row = (
        "1, '{}'::timestamptz, 'buy', {}, {}::float8, 1::real, {}::real, '{}'::jsonb,"
        " timestamptz '2025-03-01' + {} * interval '1 hour'"
    )

    def rows(*given: tuple[object, ...]) -> str:
        return "values " + ", ".join(f"({row.format(NOON, *one)})" for one in given)

    order = '{"order_id": "a", "line": 1}'
    other_line = '{"order_id": "a", "line": 2}'
    with db.connect() as conn:
        late, first, second = add(
            conn, rows((1, 5, 3, order, 9), (1, 5, 3, order, 1), (1, 5, 3, other_line, 5)), columns
        )
        _, zero = add(conn, rows((1, "'-0'", 3, order, 1), (1, "0", 3, order, 2)), columns)
        _, nan = add(
            conn, rows(("null::bigint", "'NaN'", "null", "{}", 1), ("null::bigint", "'NaN'", "null", "{}", 2)), columns
        )
        add(conn, rows((2, 5, 3, order, 1), (2, 6, 3, order, 1), (2, 5, 4, order, 1), (2, 5, 3, "{}", 1)), columns)
        assert check(conn) == {"duplicates": (1, 1, 0, 4)}
        assert flags(conn, "duplicates") == [late, second, zero, nan]
        assert first not in flags(conn, "duplicates")
        conn.execute("delete from ubp.events where event_id = any (%s)", [[first, zero, nan]])
        assert check(conn) == {"duplicates": (1, 0, 0, 1)}
        assert flags(conn, "duplicates") == [late], "the second has become the first"


def every(step: str, n: int, user: int, kind: str = "view", more: str = "") -> str:
    """Events of a user at equal distances from NOON on."""
    at = f"timestamptz '{NOON}' + g * interval '{step}'"
    return f"select {user}, {at}, '{kind}', g %% 99, 1.0{more} from generate_series(0, {n - 1}) g".replace("%%", "%")


def test_a_bot_is_found_and_bulk_orders_and_busy_people_are_not(db: Database) -> None:
    with db.connect() as conn:
        bot = add(conn, every("20 ms", 1000, user=7))
        add(conn, f"select 8, timestamptz '{NOON}', 'buy', g, 1.0 from generate_series(1, 500) g")
        columns = "user_id, event_time, kind, item_id, value, attributes"
        add(conn, every("30 ms", 99, user=9, kind="buy", more=""", '{"order_id": "x"}'::jsonb"""), columns)
        add(conn, every("2.5 s", 2000, user=10))
        assert check(conn) == {"bots": (1, 1, 0, 1000)}
        assert flags(conn, "bots") == bot
        (one,) = found(conn, "bots")
        assert (one["user_id"], one["severity"], one["detail"]["per_second"]) == (7, "high", 50.0)
        # At whole seconds; and one a second for a quarter of an hour.
        seconds = f"date_trunc('second', timestamptz '{NOON}' + g * interval '20 ms')"
        add(conn, f"select 11, {seconds}, 'view', g, 1.0 from generate_series(0, 999) g")
        add(conn, every("1 s", 900, user=12))
        assert check(conn, "bots") == {"bots": (3, 2, 0, 2900)}
        assert {one["user_id"] for one in found(conn, "bots")} == {7, 11, 12}


OUTLIERS: list[tuple[str, list[int]]] = [
    ("10", []),  # all alike
    ("case when g <= 2 then 1000 else 10 end", [1, 2]),
    ("case when g = 1 then 0.001 else 10 end", [1]),
    ("case when g = 1 then 'Infinity'::float8 when g = 2 then 'NaN' when g = 3 then 0 else 10 end", [1]),
    ("case when g = 1 then -10 else 10 end", [1]),
    ("exp(sqrt(-2 * ln((g - 0.5) / 3000)) * cos(g))", []),  # log-normal, about
    ("power((g - 0.5) / 3000, -1)", []),  # Pareto, whose mean is infinite
    ("case when g = 1 then 1e8 else power((g - 0.5) / 3000, -0.4) end", [1]),
    ("case g % 2 when 0 then 1 else 1000 end", []),  # two prices
    ("null::float8", []),
    ("case when g = 1 then 5e-324 when g = 2 then 1.7e308 else 10 + g % 7 end", [1, 2]),
    ("case when g <= 99 then 10 ^ g end", []),  # too few to say anything
]


def test_outliers_by_kind(db: Database) -> None:
    expected: list[int] = []
    with db.connect() as conn:
        for kind, (values, outliers) in enumerate(OUTLIERS):
            ids = add(
                conn,
                f"select g, timestamptz '2025-02-05' + g * interval '1 minute', '{kind}', g, ({values})::float8"
                " from generate_series(1, 3000) g",
            )
            expected += [ids[place - 1] for place in outliers]
        kinds = sum(bool(outliers) for _, outliers in OUTLIERS)
        assert check(conn, "outliers") == {"outliers": (kinds, kinds, 0, len(expected))}
        assert flags(conn, "outliers") == expected


def test_times_that_cannot_be(db: Database) -> None:
    with db.connect() as conn:
        feed(conn)
        (epoch,) = add(conn, "values (1, '1970-01-01 00:00+00', 'view', 1, 5.0)")
        columns = "user_id, event_time, kind, ingested_at"
        (early,) = add(conn, f"values (2, '{NOON}', 'view', timestamptz '2025-02-05 10:00+00')", columns)
        add(conn, f"values (1, '{NOON}', 'view', timestamptz '2025-02-05 11:55+00')", columns)
        far = add(
            conn,
            "values (1, now() + interval '40 days', 'view', now()), (2, now() + interval '9 years', 'view', now())",
            columns,
        )
        assert check(conn) == {"impossible_times": (3, 3, 0, 4)}
        assert flags(conn, "impossible_times") == [epoch, early, *far]
        told = {one["sentence"].split(" ", 1)[1][:20]: one["severity"] for one in found(conn, "impossible_times")}
        assert told == {
            "event far from all o": "medium",
            "event later than the": "medium",
            "events in the future": "high",
        }


def test_a_gap_in_a_steady_feed_and_pauses_of_a_shop(db: Database) -> None:
    gone = "delete from ubp.events where event_time >= %s and event_time < %s"
    with db.connect() as conn:
        feed(conn, every="10 minutes", hours=(8, 17), days=5)
        assert check(conn) == {}, "nights and weekends are no gaps"
        conn.execute(gone, ["2025-02-11 00:00+00", "2025-02-13 00:00+00"])
        assert check(conn) == {"gaps": (1, 1, 0, 0)}
        (one,) = found(conn, "gaps")
        assert one["severity"] == "high"
        assert f"{one['from_time']:%m-%d %H} {one['until_time']:%m-%d %H}" == "02-10 18 02-13 08"
        assert 100 <= one["detail"]["expected"] <= 140
        conn.execute("insert into ubp.calendar (day, name) values ('2025-02-11', 'a'), ('2025-02-12', 'b')")
        assert check(conn) == {"gaps": (0, 0, 1, 0)}
        for day in ("01-27", "02-06", "03-05"):
            conn.execute(gone, [f"2025-{day} 00:00+00", f"2025-{day} 23:59+00"])
        conn.execute("delete from ubp.calendar")
        check(conn)
        assert {one["severity"] for one in found(conn, "gaps")} == {"low"}, "it pauses now and then"


def test_christmas_and_a_feed_that_stopped(db: Database) -> None:
    with db.connect() as conn:
        feed(conn, begin="2024-10-07 00:00+00", until="2025-02-23 23:59+00", every="15 minutes")
        conn.execute("delete from ubp.events where event_time >= '2024-12-24' and event_time < '2024-12-29'")
        assert check(conn) == {"gaps": (1, 1, 0, 0)}
        assert found(conn, "gaps")[0]["severity"] == "low"
        conn.execute("delete from ubp.events")
        conn.execute("select 1")
        days = conn.execute("select (now() - interval '70 days')::text, (now() - interval '3 days')::text").fetchone()
        assert days is not None
        feed(conn, begin=days[0], until=days[1], every="15 minutes")
        assert check(conn) == {"gaps": (1, 1, 1, 0)}
        assert "since" in found(conn, "gaps")[0]["sentence"]
        conn.execute("update ubp.events set ingested_at = now()")
        assert check(conn) == {"gaps": (0, 0, 1, 0)}, "a history that was copied is no live feed"


@pytest.mark.parametrize(
    ("change", "said", "severity"),
    [
        (
            "update ubp.events set item_id = null where event_time >= '2025-03-03' and event_id % 2 = 0",
            "view events with item: 50%",
            "high",
        ),
        (
            "update ubp.events set kind = 'look' where event_time >= '2025-02-17' and event_id % 3 = 0",
            "look events came",
            "low",
        ),
        (
            "update ubp.events set kind = 'look' where event_time < '2025-03-03' and event_id % 3 = 0",
            "no look event since",
            "high",
        ),
        (
            "update ubp.events set value = value * 100 where event_time >= '2025-03-10'",
            "the middle value of view events is about",
            "high",
        ),
        (
            "update ubp.events set value = value / 1000 where event_time >= '2025-02-10' and event_time < '2025-02-24'",
            "is about 1/1,000 of",
            "high",
        ),
    ],
)
def test_a_source_that_changed(db: Database, change: str, said: str, severity: str) -> None:
    with db.connect() as conn:
        feed(conn, every="10 minutes")
        assert check(conn) == {}
        conn.execute(change.encode())
        assert check(conn) == {"drift": (1, 1, 0, found(conn, "drift")[0]["events"])}
        (one,) = found(conn, "drift")
        assert said in one["sentence"]
        assert one["severity"] == severity
        assert not math.isnan(one["detail"]["before"])


def test_dates_that_were_swapped(db: Database) -> None:
    columns = "user_id, event_time, kind, ingested_at"
    with db.connect() as conn:
        feed(conn)
        swapped = conn.execute(
            "update ubp.events set event_time = event_time + interval '30 days' where event_time::date = '2025-03-02'"
            " and event_id % 90 = 0 returning event_id"
        ).fetchall()
        assert swapped
        assert "swapped_dates" not in check(conn), "thirty days late, but not with day and month swapped"
        ids = [row[0] for row in swapped]
        conn.execute(
            "update ubp.events set event_time = make_timestamptz(2025, 2, 3, 9, 0, 0, 'UTC') where event_id = any (%s)",
            [ids],
        )
        (live,) = add(conn, "values (3, '2025-07-02 10:00+00', 'view', timestamptz '2025-02-07 10:01+00')", columns)
        assert check(conn) == {"swapped_dates": (1, 1, 0, len(ids) + 1), "impossible_times": (0, 0, 1, 0)}
        assert flags(conn, "swapped_dates") == sorted([*ids, live])
