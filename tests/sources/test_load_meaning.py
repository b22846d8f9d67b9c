"""What a loaded event says: times in the right zone, ids, kinds, values, attributes, the moment it was known."""

from pathlib import Path
from typing import Any

import pytest
from psycopg.rows import tuple_row

from tests.fix_database import Database
from tests.sources.loading import events, load, load_csv, make_map, write
from ubp_sql.errors import MapError
from ubp_sql.sources.load import load_file


@pytest.mark.parametrize("session_zone", ["UTC", "Asia/Tokyo"])
def test_times_are_in_the_maps_zone_unless_the_text_has_an_offset(
    db: Database, tmp_path: Path, session_zone: str
) -> None:
    texts = ["2024-07-01 12:00", "2024-07-01 12:00+02", "2024-07-01T12:00:00Z", "2024-01-01", "20240701"]
    content = "who,at,what\n" + "".join(f"1,{text},view\n" for text in texts)
    path, load_map = write(tmp_path, content), make_map(tmp_path, time_zone="Europe/London")
    with db.connect() as conn:
        conn.execute(
            "select set_config('TimeZone', %s, false), set_config('DateStyle', 'SQL, DMY', false)", (session_zone,)
        )
        load_file(conn, path, load_map)
        assert conn.execute("show TimeZone").fetchone() == (session_zone,)
        assert conn.execute("show DateStyle").fetchone() == ("SQL, DMY",)
    utc = [row[0] for row in events(db, "to_char(event_time at time zone 'UTC', 'MM-DD HH24:MI')")]
    assert utc == ["07-01 11:00", "07-01 10:00", "07-01 12:00", "01-01 00:00", "06-30 23:00"]
    assert db.one("select time_zone from ubp.sources where name = 's'") == "Europe/London"


def test_a_date_that_could_be_two_is_rejected_and_a_format_says_which(db: Database, tmp_path: Path) -> None:
    content = "who,at,what\n1,02/01/2024,view\n"
    assert load_csv(db, tmp_path, content).rejected == 1
    load_csv(db, tmp_path, content, source="t", event_time="to_timestamp(at, 'DD/MM/YYYY')", time_zone="Europe/Paris")
    assert events(db, "event_time at time zone 'Europe/Paris' = '2024-01-02'") == [(True,)]


def test_epoch_seconds(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, "who,at,what\n1,1704067200.5,view\n", event_time="to_timestamp(at::numeric)")
    assert events(db, "event_time = '2024-01-01 00:00:00.5+00'") == [(True,)]


def test_integer_keys_are_the_ids(db: Database, tmp_path: Path) -> None:
    content = "who,at,what,item\n17850.0,2024-01-01,v,5\n17850,2024-01-01,v,6.00\n0,2024-01-01,v,\n"
    load_csv(db, tmp_path, content, item="item")
    assert events(db, "user_id, item_id") == [(17850, 5), (17850, 6), (0, None)]
    assert db.rows("select user_id, user_key from ubp.users order by 1") == [
        {"user_id": 0, "user_key": "0"},
        {"user_id": 17850, "user_key": "17850"},
    ]
    assert db.rows("select user_keys, item_keys from ubp.sources where name = 's'") == [
        {"user_keys": "integer", "item_keys": "integer"}
    ]


@pytest.mark.parametrize("odd", ["007", "4000000000000000", "1.5", "-3", "1e3", "a", "99999999999999999999"])
def test_one_key_that_is_no_integer_makes_the_source_one_of_text(db: Database, tmp_path: Path, odd: str) -> None:
    load_csv(db, tmp_path, f"who,at,what\n17850,2024-01-01,v\n{odd},2024-01-01,v\n")
    ids = {row["user_key"]: row["user_id"] for row in db.rows("select user_key, user_id from ubp.users")}
    assert set(ids) == {"17850", odd}
    assert all(number >= 4_000_000_000_000_000 for number in ids.values())
    assert [user for user, _ in events(db)] == [ids["17850"], ids[odd]]
    load_csv(db, tmp_path, "who,at,what\n5,2024-01-02,v\n")
    assert db.one("select user_id >= 4e15 from ubp.users where user_key = '5'")


def test_a_map_can_ask_for_text_keys(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, "who,at,what\n17850,2024-01-01,v\n", user_keys="text")
    assert db.one("select user_id >= 4e15 from ubp.events")


def test_a_map_can_ask_for_integer_keys(db: Database, tmp_path: Path) -> None:
    result = load_csv(db, tmp_path, "who,at,what\nabc,2024-01-01,v\n5,2024-01-01,v\n", user_keys="integer")
    assert (result.loaded, result.rejected) == (1, 1)


def test_a_text_source_shares_the_user_of_an_integer_source(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, "who,at,what\n17850,2024-01-01,v\n")
    load_csv(db, tmp_path, "who,at,what\na,2024-01-01,v\n17850,2024-01-01,v\n", source="other")
    users = [user for user, _ in events(db)]
    assert users[2] == users[0] == 17850
    assert db.one("select count(*) from ubp.users") == 2


def test_an_integer_key_is_its_number_or_the_load_is_refused(db: Database, tmp_path: Path) -> None:
    """The text source came first and key 7 has an assigned id: which file came first must not decide what 7 means."""
    load_csv(db, tmp_path, "who,at,what\na,2024-01-01,v\n7,2024-01-01,v\n")
    assigned = db.one("select user_id from ubp.users where user_key = '7'")
    content = "who,at,what\n8,2024-01-02,v\n7,2024-01-02,v\n"
    with pytest.raises(MapError, match=f"key 7 of other would be user 7, but .* made it user {assigned}") as caught:
        load_csv(db, tmp_path, content, source="other")
    assert caught.value.hint == "write `user_keys: text` in the map to share users by key text"
    assert len(events(db)) == 2
    assert db.one("select count(*) from ubp.users") == 2
    assert db.one("select count(*) from ubp.sources where name = 'other'") == 0
    assert load_csv(db, tmp_path, content, source="other", user_keys="text").loaded == 2
    assert [user for user, _ in events(db)][3] == assigned


def test_a_source_of_integers_cannot_turn_to_text(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, "who,at,what\n5,2024-01-01,v\n", source="numbers")
    load_csv(db, tmp_path, "who,at,what\na,2024-01-01,v\n7,2024-01-01,v\n")
    with pytest.raises(MapError, match="key 7") as caught:
        load_csv(db, tmp_path, "who,at,what\n7,2024-01-02,v\n", source="numbers")
    assert "another source name" in (caught.value.hint or "")


def test_item_keys_are_shared_by_text_in_either_order(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, "who,at,what,item\n1,2024-01-01,v,A\n1,2024-01-01,v,7\n", item="item")
    load_csv(db, tmp_path, "who,at,what,item\n1,2024-01-02,v,7\n", item="item", source="other")
    items = [item for (item,) in events(db, "item_id")]
    assert items[2] == items[1]


def test_a_load_without_a_usable_row_does_not_decide_the_kind_of_keys(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, "who,at,what\n5,x,v\n", user_keys="text")
    load_csv(db, tmp_path, "who,at,what\n5,2024-01-01,v\n", user_keys="integer")
    assert events(db) == [(5, "v")]


def test_an_item_key_that_is_no_integer_is_assigned_an_id(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, "who,at,what,item\n1,2024-01-01,v,5\n", item="item")
    load_csv(db, tmp_path, "who,at,what,item\n1,2024-01-02,v,X9\n1,2024-01-02,v,6\n", item="item")
    assert events(db, "item_id = 5 as a, item_id = 6 as b, item_id >= 4e15 as c") == [
        (True, False, False),
        (False, False, True),
        (False, True, False),
    ]


def test_attributes(db: Database, tmp_path: Path) -> None:
    content = "who,at,what,o,n,t\n1,2024-01-01,v,77,2.5,x\n1,2024-01-01,v,,,\n1,2024-01-01,v,,,y\n"
    extra = {"n": "n::numeric", "t": "t", "constant": "'c'"}
    load_csv(db, tmp_path, content, order_id="o", attributes={"n": "n::numeric", "t": "t"})
    assert events(db, "attributes") == [({"order_id": "77", "n": 2.5, "t": "x"},), (None,), ({"t": "y"},)]
    load_csv(db, tmp_path, content, source="only_order", order_id="o")
    assert events(db, "attributes")[3:] == [({"order_id": "77"},), (None,), (None,)]
    load_csv(db, tmp_path, content, source="third", attributes=extra)
    assert events(db, "attributes")[6:] == [({"n": 2.5, "t": "x", "constant": "c"},), ({"constant": "c"},), ({"t": "y", "constant": "c"},)]  # noqa: E501  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "ingested_at = event_time"),
        ({"ingested_at": "seen"}, "ingested_at = '2024-02-01 00:00+00'"),
        ({"ingested": "now"}, "ingested_at > now() - interval '1 hour'"),
    ],
)
def test_when_it_was_known(db: Database, tmp_path: Path, fields: dict[str, Any], expected: str) -> None:
    load_csv(db, tmp_path, "who,at,what,seen\n1,2024-01-01,v,2024-02-01\n", **fields)
    assert events(db, expected) == [(True,)]


def test_without_a_known_time(db: Database, tmp_path: Path) -> None:
    result = load_csv(db, tmp_path, "who,at,what,seen\n1,2024-01-01,v,\n", ingested_at="seen")
    assert result.rejected_by_reason == {"no ingested_at, or it is not finite": 1}


def test_each_month_with_rows_gets_its_partition_and_no_other(db: Database, tmp_path: Path) -> None:
    content = "who,at,what\n1,1950-06-15,v\n1,2024-01-31 23:59:59.999999,v\n1,2024-02-01,v\n"
    load_csv(db, tmp_path, content)
    assert [
        row["p"] for row in db.rows("select tableoid::regclass::text as p from ubp.events order by event_time")
    ] == [
        "ubp.events_1950_06",
        "ubp.events_2024_01",
        "ubp.events_2024_02",
    ]
    assert db.one("select count(*) from pg_inherits where inhparent = 'ubp.events'::regclass") == 4


def test_events_keep_the_order_of_the_file(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ubp_sql.sources.rows.BATCH_ROWS", 17)
    content = "who,at,what\n" + "".join(f"u{n % 7},2024-01-0{n % 3 + 1},k{n}\n" for n in range(100))
    load_csv(db, tmp_path, content)
    assert [kind for _, kind in events(db)] == [f"k{n}" for n in range(100)]


def test_expressions_see_the_catalogue_only(db: Database, tmp_path: Path) -> None:
    """A function of the same name in the session's path does not take the place of SQL's own."""
    path, load_map = write(tmp_path, "who,at,what\n1,2024-01-01,v\n"), make_map(tmp_path, kind="upper(what)")
    db.execute("create function public.upper(text) returns text language sql as $$ select 'hijacked' $$")
    with db.connect(row_factory=tuple_row) as conn:
        conn.execute("set search_path = public, pg_catalog")
        load_file(conn, path, load_map)
    assert load(db, path, load_map).already == 1
    assert events(db, "kind") == [("V",)]
