"""Attributes of users and items: typed where declared, in bulk, read back as of any moment."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.helpers import refused
from tests.cli.running import told
from tests.fix_database import Database
from tests.users.helpers import link, member

CUSTOMERS = [
    {"user_key": "17850", "age": 42, "country": "GB", "income": 31_000.5},
    {"user_key": "ann@home", "age": None, "country": "FR", "newsletter": True},
    {"user_key": "new@mail", "age": 30},
]
HISTORY = "select user_id, name, value, text, valid_from from ubp.user_attributes order by user_id, name, valid_from"
PROFILE = "select name, value, text from ubp.user_profile(%s, %s)"


def said(conn: Any, function: str, rows: object, *more: object) -> int:
    extra = ", %s" * len(more)
    row = conn.execute(f"select ubp.{function}(%s::jsonb{extra})", [json.dumps(rows), *more]).fetchone()
    return int(row[0])


def test_many_users_at_once(keyed: Database) -> None:
    with keyed.connect() as conn:
        assert said(conn, "set_user_attributes", CUSTOMERS) == 6
        assert said(conn, "set_user_attributes", CUSTOMERS) == 0, "what is known is not said again"
        changed = [{"user_key": "17850.0", "age": 43, "country": "GB"}]
        assert said(conn, "set_user_attributes", changed) == 1
        assert conn.execute("select name, value, text from ubp.user_profile('17850')").fetchall() == [
            ("age", 43.0, None),
            ("country", None, "GB"),
            ("income", 31000.5, None),
        ]
        new = member(conn, "new@mail")
        assert new >= 4_000_000_000_000_000
        assert keyed.one("select value from ubp.user_profile('new@mail')") == 30
        assert keyed.one("select value from ubp.user_profile('ann@home') where name = 'newsletter'") == 1
        assert keyed.one("select count(*) from ubp.user_profiles where user_id = any (%s)", [17850, new]) == 4


def test_out_of_a_query(keyed: Database) -> None:
    with keyed.connect() as conn:
        conn.execute("create table public.crm (user_key text, age int, plan text, valid_from date)")
        conn.execute("insert into public.crm values ('17850', 42, 'gold', '2025-01-01'), ('bob', null, 'free', null)")
        bulk = "select ubp.set_user_attributes(jsonb_agg(to_jsonb(c))) from public.crm c"
        assert keyed.one(bulk) == 3
        assert keyed.one("select valid_from::date::text from ubp.user_profile('17850') limit 1") == "2025-01-01"
        many = """insert into public.crm select n::text, n % 90, 'p' || n % 3 from generate_series(1, 3000) n"""
        conn.execute(many)
        assert keyed.one(bulk) == 6000
        assert keyed.one(bulk) == 0


def test_out_of_a_file(keyed: Database, tmp_path: Path) -> None:
    file, map_file = tmp_path / "crm.csv", tmp_path / "crm.yaml"
    file.write_text("customer,what,number,words,since\n17850,age,42,,2025-01-01\nnew@mail,plan,,gold,2025-02-01\n")
    map_file.write_text(
        "source: crm\nformat: csv\nuser: customer\nuser_keys: text\nevent_time: since\n"
        "kind: \"'attribute:' || what\"\nvalue: number\nattributes: {text: words}\n"
    )
    told("load", file, "--map", map_file, "--dsn", keyed.dsn)
    assert keyed.one("select value from ubp.user_profile('17850', '2025-01-02 00:00+00')") == 42
    assert keyed.one("select text from ubp.user_profile('new@mail') where name = 'plan'") == "gold"


def test_a_moment_knows_what_was_said_and_held_then(keyed: Database) -> None:
    rows = [
        {"user_key": "bob", "size": 1, "valid_from": "2025-01-01 00:00+00", "ingested_at": "2025-01-01 00:00+00"},
        {"user_key": "bob", "size": 2, "valid_from": "2025-03-01 00:00+00", "ingested_at": "2025-03-01 00:00+00"},
        {"user_key": "bob", "size": 9, "valid_from": "2025-02-01 00:00+00", "ingested_at": "2025-06-01 00:00+00"},
    ]
    items = [{"item_key": "3", **{k: v for k, v in row.items() if k != "user_key"}} for row in rows]
    expected = {"2025-01-01": None, "2025-01-02": 1, "2025-02-15": 1, "2025-03-02": 2, "2025-07-01": 2}
    with keyed.connect() as conn:
        assert said(conn, "set_user_attributes", rows) == said(conn, "set_item_attributes", items) == 3
        for day, value in expected.items():
            assert keyed.one("select value from ubp.user_profile('bob', %s)", f"{day} 00:00+00") == value, day
            assert keyed.one("select value from ubp.item_profile('3', %s)", f"{day} 12:00+00") == (value or 1), day
        conn.execute("insert into ubp.item_attributes (item_id, name) values (3, 'size')")  # has none any more
        assert keyed.one("select count(*) from ubp.item_profile(3)") == 0
        assert keyed.one("select count(*) from ubp.item_profiles") == 0


def test_attributes_of_both_keys_are_the_users(keyed: Database) -> None:
    with keyed.connect() as conn:
        conn.execute("select ubp.set_user_attribute('ann@home', 'age', 42)")
        conn.execute("select ubp.set_user_attribute('ann@work', 'plan', 'gold'::text)")
        link(conn, "ann@home", "ann@work")
        for key in ("ann@home", "ann@work"):
            assert conn.execute(PROFILE, [key, "2100-01-01"]).fetchall() == [("age", 42, None), ("plan", None, "gold")]
        conn.execute("select ubp.set_user_attribute('ann@work', 'size', 3)")
        conn.execute("select ubp.unlink_users('ann@home', 'ann@work')")
        assert conn.execute(PROFILE, ["ann@home", "2100-01-01"]).fetchall() == [("age", 42, None)]
        assert len(conn.execute(PROFILE, ["ann@work", "2100-01-01"]).fetchall()) == 2, (
            "what was said of a key stays his"
        )


def test_a_declared_type_is_kept(keyed: Database) -> None:
    with keyed.connect() as conn:
        for of in ("user", "item"):
            conn.execute("select ubp.define_attribute(%s, 'price', 'number', 'euros')", [of])
            conn.execute("select ubp.define_attribute(%s, 'category', 'text')", [of])
            conn.execute(f"select ubp.set_{of}_attribute(3, 'price', 12.5)".encode())
            conn.execute(f"select ubp.set_{of}_attribute(3, 'price', '13.5'::text)".encode())
            conn.execute(f"select ubp.set_{of}_attribute(3, 'category', '7'::text)".encode())
            many = f"select ubp.set_{of}_attributes(%s::jsonb)"
            for name, value in (("price", "cheap"), ("category", 7)):
                literal = "'cheap'::text" if value == "cheap" else "7"
                error = refused(conn, "UB003", f"select ubp.set_{of}_attribute(3, '{name}', {literal})")
                assert f"attribute '{name}' of {of}s is a" in str(error.diag.message_primary)
                refused(conn, "UB003", many, json.dumps([{f"{of}_key": "3", name: value}]))
            other = refused(conn, "UB003", f"select ubp.define_attribute('{of}', 'price', 'text')")
            assert f"of {of}s cannot be a text: {of} 3 has '12.5'" in str(other.diag.message_primary)
            conn.execute("select ubp.define_attribute(%s, 'size', 'number')", [of])
            conn.execute("select ubp.define_attribute(%s, 'size', 'text')", [of])  # nobody has one yet
        for statement in (
            "insert into ubp.item_attributes (item_id, name, text) values (4, 'price', '1'), (5, 'price', 'cheap')",
            "insert into ubp.item_attributes (item_id, name, value) values (4, 'category', 1)",
            "update ubp.item_attributes set value = 1, text = null where name = 'category'",
        ):
            with pytest.raises(Exception, match=r"attribute (price|category) of items is a (number|text), and"):
                conn.execute(statement.encode())
        conn.execute("insert into ubp.item_attributes (item_id, name) values (3, 'price')")  # none from now on
        meaning = "select meaning from ubp.user_profile(3) where name = 'price'"
        assert keyed.one(meaning) == "euros"


WRONG: list[tuple[object, str]] = [
    (None, "object 1 is 'null'"),
    ({}, "object 1 is"),
    ([1], "object 1 is '1'"),
    ([{"age": 3}], "object 1 has no user_key"),
    ([{"user_key": " ", "age": 3}], "has no user_key"),
    ([{"user_key": "x" * 1001, "age": 3}], "more than 1000 bytes"),
    ([{"user_key": "1", "Age": 3}], "'Age', which is no name"),
    ([{"user_key": "1", "age": [3]}], "says [3] for 'age'"),
    ([{"user_key": "1", "age": {"a": 3}}], "for 'age'"),
    ([{"user_key": "1"}, {"user_key": "1", "plan": "x" * 2001}], "object 2 has a text of more than 2000"),
    ([{"user_key": "1", "age": 3, "valid_from": "infinity"}], "is of infinity"),
    ([{"user_key": "1", "age": 3, "valid_from": "0001-01-01"}], "is of 0001-01-01"),
]


@pytest.mark.parametrize(("rows", "message"), WRONG)
def test_what_cannot_be_said(keyed_template: Database, rows: object, message: str) -> None:
    with keyed_template.connect() as conn:
        error = refused(conn, "UB003", "select ubp.set_user_attributes(%s::jsonb)", json.dumps(rows))
        assert message in str(error.diag.message_primary)
        assert keyed_template.one("select count(*) from ubp.user_attributes") == 0


def test_numbers_that_no_double_holds(keyed_template: Database) -> None:
    with keyed_template.connect() as conn:
        for number in ("1e400", "-1e400", "1e-400"):
            refused(conn, "UB003", f'select ubp.set_user_attributes(\'[{{"user_key": "1", "age": {number}}}]\')')


DECLARATIONS = [
    ("shop", "age", "number"),
    (None, "age", "number"),
    ("user", "Age", "number"),
    ("user", None, "number"),
    ("user", "age", "integer"),
    ("user", "age", None),
]


@pytest.mark.parametrize("arguments", DECLARATIONS)
def test_what_cannot_be_declared(keyed_template: Database, arguments: tuple[object, ...]) -> None:
    with keyed_template.connect() as conn:
        refused(conn, "UB003", "select ubp.define_attribute(%s, %s, %s)", *arguments)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=50),
    st.sampled_from([5e-324, -1.7976931348623157e308, "1e99", "1e999", " 7 ", "0x10", "NaN", "-.5", "1_000", "٣"]),
)
NAMES = st.sampled_from(["age", "plan", "size_of_it"])
LISTS = st.lists(st.tuples(st.sampled_from(["17850", "bob", "n"]), NAMES, VALUES), max_size=6)


@settings(max_examples=25, deadline=None)
@given(LISTS)
def test_what_is_said_last_is_known(keyed_template: Database, told: list[tuple[str, str, Any]]) -> None:
    rows = [{"user_key": key, name: value} for key, name, value in told]
    known = {(key, name): value for key, name, value in told if value is not None}
    with keyed_template.connect() as conn, conn.transaction(force_rollback=True):
        assert said(conn, "set_user_attributes", rows, "2025-01-01 00:00+00") == len(known)
        assert said(conn, "set_user_attributes", rows, "2025-01-01 00:00+00") == 0
        for (key, name), value in known.items():
            found = conn.execute(
                "select value, text from ubp.user_profile(%s) where name = %s", [key, name], binary=True
            ).fetchone()
            assert found is not None
            assert found[1] == value if isinstance(value, str) else found == (float(value), None)
