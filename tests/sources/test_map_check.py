"""A map against a file's columns: wrong expressions are named before any row is read."""

from pathlib import Path
from typing import Any

import pytest

from tests.fix_database import Database
from tests.sources.loading import events, load, load_csv, make_map, rejected, write
from ubp_sql.errors import MapError

CONTENT = "who,at,what,price,user\n1,2024-01-01,view,2.5,7\n"


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"value": "prices"}, "value", 'column "prices" does not exist'),
        ({"value": "price::numeric *"}, "value", "syntax error"),
        ({"value": "price::numeric, 1"}, "value", ""),
        ({"value": "sum(price::numeric)"}, "value", "aggregate functions are not allowed"),
        ({"value": "row_number() over ()"}, "value", "window functions are not allowed"),
        ({"value": "generate_series(1, 2)"}, "value", "set-returning functions are not allowed"),
        ({"value": "no_such_function(price)"}, "value", "function no_such_function(text) does not exist"),
        ({"value": "price::no_such_type"}, "value", 'type "no_such_type" does not exist'),
        ({"value": "now()"}, "value", "cannot cast type"),
        ({"user": "whom"}, "user", 'column "whom" does not exist'),
        ({"event_time": "at + 1"}, "event_time", "operator does not exist"),
        ({"kind": "purchase"}, "kind", 'column "purchase" does not exist'),
        ({"kind": [{"a": "what"}]}, "kind.0", "argument of IS TRUE must be type boolean"),
        ({"kind": [{"a": "true"}, {"b": "whatever = 'x'"}]}, "kind.1", 'column "whatever" does not exist'),
        ({"keys": ["who", "nr"]}, "keys", 'column "nr" does not exist'),
        ({"order_id": "nr"}, "attributes", 'column "nr" does not exist'),
        ({"attributes": {"shop": "store"}}, "attributes", 'column "store" does not exist'),
        ({"user": "user || ''"}, "user", "SQL's own user, not the column"),
        ({"value": "ubp.events"}, "value", "missing FROM-clause entry"),
    ],
)
def test_a_wrong_expression_is_one_line_naming_the_field(
    db: Database, tmp_path: Path, fields: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(MapError) as caught:
        load_csv(db, tmp_path, CONTENT, **fields)
    assert f"field {field}" in caught.value.message
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert db.one("select count(*) from ubp.loads") == 0


def test_the_hint_lists_the_columns(db: Database, tmp_path: Path) -> None:
    with pytest.raises(MapError) as caught:
        load_csv(db, tmp_path, CONTENT, value="prices")
    assert "columns: who, at, what, price, user" in (caught.value.hint or "")


def test_the_message_has_the_maps_line(db: Database, tmp_path: Path) -> None:
    with pytest.raises(MapError, match=r"map\.yaml line 6, field value"):
        load_csv(db, tmp_path, CONTENT, value="prices")


def test_a_forgotten_constant_is_explained(db: Database, tmp_path: Path) -> None:
    with pytest.raises(MapError) as caught:
        load_csv(db, tmp_path, CONTENT, kind="purchase")
    assert "kind: {constant: purchase}" in (caught.value.hint or "")


def test_a_column_called_like_an_sql_word(db: Database, tmp_path: Path) -> None:
    """`user` alone is the column; inside an expression it needs double quotes."""
    load_csv(db, tmp_path, CONTENT, user="user", value='"user"::int * 2')
    assert events(db, "user_id, value") == [(7, 14.0)]


def test_columns_are_found_by_any_spelling(db: Database, tmp_path: Path) -> None:
    content = "Customer ID,At Time,What?,ubp_line,ctid\n1,2024-01-01,view,5,6\n"
    load_csv(
        db, tmp_path, content, user="Customer ID", event_time="AT_TIME", kind="What?", value="ctid", quantity="ubp_line"
    )
    assert events(db, "user_id, kind, value, quantity") == [(1, "view", 6.0, 5.0)]


def test_an_expression_over_the_whole_row_sees_every_column(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, CONTENT, attributes={"price": "to_jsonb(ubp_staging)->>'price'"})
    assert events(db, "attributes->>'price'") == [("2.5",)]


def test_percent_and_braces_are_plain_text(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, CONTENT, kind="case when what like 'v%' then '{100 %s}' end")
    assert events(db, "kind") == [("{100 %s}",)]


def test_unused_columns_are_not_sent_but_kept_in_raw(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, "who,at,what,note\n,2024-01-01,view,hello\n")
    assert rejected(db) == [(2, "no user key", ",2024-01-01,view,hello")]


def test_a_source_keeps_its_time_zone(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, CONTENT, time_zone="Europe/London")
    with pytest.raises(MapError, match="was loaded in Europe/London, not UTC"):
        load(db, write(tmp_path, CONTENT + "2,2024-01-02,view,1,1\n"), make_map(tmp_path))


def test_a_source_keeps_its_kind_of_keys(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, CONTENT)
    with pytest.raises(MapError, match="made its keys integer, not text"):
        load(db, write(tmp_path, CONTENT + "2,2024-01-02,view,1,1\n"), make_map(tmp_path, user_keys="text"))


def test_the_map_is_kept_with_the_source(db: Database, tmp_path: Path) -> None:
    load_csv(db, tmp_path, CONTENT, value="price")
    assert db.one("select map->>'value' from ubp.sources where name = 's'") == "price"


@pytest.mark.parametrize("delimiter", [";", "|", "\t"])
def test_a_wrong_delimiter_is_guessed_from_the_header(db: Database, tmp_path: Path, delimiter: str) -> None:
    with pytest.raises(MapError) as caught:
        load_csv(db, tmp_path, CONTENT.replace(",", delimiter))
    assert (caught.value.hint or "").startswith("one column only: is delimiter right?")


@pytest.mark.parametrize("expression", ["to_timestamp(at)", "to_timestamp(at + 1)"])
def test_a_missing_cast_is_explained(db: Database, tmp_path: Path, expression: str) -> None:
    with pytest.raises(MapError) as caught:
        load_csv(db, tmp_path, CONTENT, event_time=expression)
    assert (caught.value.hint or "").startswith("CSV columns are text: cast them, for example x::numeric")
