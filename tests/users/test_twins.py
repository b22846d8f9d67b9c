"""Each function on a user's id has a twin on his key: found in the catalogue, and both say the same."""

from typing import Any

import psycopg
import pytest

from tests.api.helpers import Connection, refused
from tests.fix_database import Database
from tests.users.helpers import AS_OF, TEXTS, member

FUNCTIONS = """
select p.proname::text as name, coalesce(p.proargnames[1:p.pronargs], '{}') as arguments,
       array(select format_type(a.type, null) from unnest(p.proargtypes) with ordinality as a (type, place)
              order by a.place) as types, p.provolatile = 'v' as writes, p.pronargdefaults as defaults
  from pg_proc p where p.pronamespace = 'ubp'::regnamespace and p.prorettype <> 'trigger'::regtype
 order by p.oid::regprocedure::text collate "C" """
ARRAY = (
    "'{1,2}' without a type would fit bigint[] and text[] alike, and be refused as ambiguous: "
    "array(select ubp.resolve_user(key) from ...) takes keys"
)
# By name and argument: a function on ids that has no twin on keys, and why.
EXCEPTIONS = {
    ("decide_many", "user_ids"): ARRAY,
    ("explain_many", "user_ids"): ARRAY,
    ("predict_many", "user_ids"): ARRAY,
    ("sequences", "user_ids"): ARRAY,
    ("sequence_matrix", "for_users"): ARRAY,
}
# What the shop's model gives nothing for; tests of theirs ask both where it does.
REFUSED = {"explain_surrogate", "predict_interval", "predict_set"}
ONE = {("user_id", "bigint"): ("user_key", "text")}
# What the arguments beside the user are, by name and type.
VALUES = {
    ("as_of", "timestamp with time zone"): "'2025-06-20 00:00+00'",
    ("at", "timestamp with time zone"): "'2025-06-20 00:00+00'",
    ("changes", "jsonb"): """'{"events": [{"kind": "purchase"}]}'""",
    ("cost", "double precision"): "2",
    ("costs", "jsonb"): """'{"act_yes": -8, "act_no": 2, "skip_yes": 0, "skip_no": 0}'""",
    ("coverage", "double precision"): "0.9",
    ("feature", "text"): "(select feature from ubp.feature_catalogue order by position limit 1)",
    ("feature_set", "text"): "'default'",
    ("gain", "double precision"): "10",
    ("limit", "integer"): "5",
    ("n", "integer"): "7",
    ("name", "text"): "'size'",
    ("task", "text"): "'purchase'",
    ("top", "integer"): "3",
    ("valid_from", "timestamp with time zone"): "'2025-06-20 00:00+00'",
    ("value", "double precision"): "4.5",
    ("value", "text"): "'large'",
}
# As a key, and the id by which the same user is asked for.
KEYS = (*((key, key) for key in TEXTS), ("17850", "17850"), ("17850.0", "17850"), (" 17850 ", "17850"))
UNKNOWN = ("nobody", "", "987654321", "1" * 1000, "'; drop table ubp.events --")


def functions(db: Database) -> list[dict[str, Any]]:
    return db.rows(FUNCTIONS)


def signature(function: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(zip(function["arguments"], function["types"], strict=True))


def of_ids(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [function for function in found if ("user_id", "bigint") in signature(function)]


def test_each_function_on_an_id_has_a_twin_on_a_key(keyed_template: Database) -> None:
    found = functions(keyed_template)
    there = {(function["name"], signature(function)): function["defaults"] for function in found}
    on_ids = of_ids(found)
    assert len(on_ids) >= 13
    assert {"predict_purchase", "set_user_attribute", "user_profile"} <= {function["name"] for function in on_ids}
    for function in on_ids:
        twin = tuple(ONE.get(argument, argument) for argument in signature(function))
        assert there.get((function["name"], twin)) == function["defaults"], function


def test_functions_on_many_ids_are_the_exceptions(keyed_template: Database) -> None:
    found = {
        (function["name"], argument)
        for function in functions(keyed_template)
        for argument, kind in signature(function)
        if "user" in argument and kind == "bigint[]"
    }
    assert found == EXCEPTIONS.keys()
    with keyed_template.connect() as conn:
        conn.execute("select * from ubp.predict_many('purchase', '{1, 2}')")  # what a twin would make ambiguous


def calls(function: dict[str, Any], user: str) -> str:
    values = [VALUES.get(argument, user) for argument in signature(function)]
    return f"ubp.{function['name']}({', '.join(values)})"


WRITTEN = """
select user_id, event_time, kind, value, attributes from ubp.events where kind = 'attribute:size' order by event_id"""


def both(conn: Connection, functions: list[dict[str, Any]], key: str, user_id: int | None) -> None:
    """Compares what is said, or written, of a key with what is of an id; untyped, as an analyst writes it."""
    quoted = "'{}'".format(key.replace("'", "''"))
    for function in functions:
        said = []
        for user in (quoted, f"({'null' if user_id is None else user_id})::bigint"):
            with conn.transaction(force_rollback=True):
                try:
                    found = conn.execute(f"select * from {calls(function, user)}".encode(), binary=True).fetchall()
                except psycopg.DatabaseError as error:
                    if function["name"] not in REFUSED:
                        raise
                    said.append([(error.diag.message_primary,)])
                else:
                    said.append(conn.execute(WRITTEN).fetchall() if function["writes"] else found)
        assert said[0] == said[1], (function["name"], key)


@pytest.mark.parametrize(("key", "same"), KEYS)
def test_both_say_the_same(keyed_template: Database, key: str, same: str) -> None:
    with keyed_template.connect() as conn:
        user_id = member(conn, same)
        assert conn.execute("select ubp.predict_purchase(%s::bigint, %s)", [user_id, AS_OF]).fetchone() != (None,)
        both(conn, of_ids(functions(keyed_template)), key, user_id)


@pytest.mark.parametrize("key", UNKNOWN)
def test_both_say_the_same_of_nobody(keyed_template: Database, key: str) -> None:
    """A key that nobody has is NULL as an id; what writes refuses it."""
    number = 987654321 if key == "987654321" else None
    with keyed_template.connect() as conn:
        for function in of_ids(functions(keyed_template)):
            if number is not None or not function["writes"]:
                both(conn, [function], key, number)
            else:
                refused(conn, "UB003", f"select {calls(function, '%s')}", key)


def test_predict_knows_a_key_as_resolve_member_does(keyed_template: Database) -> None:
    """predict_key has the expression once more, for speed."""
    from ubp_sql.api.predict import USER_OF_KEY

    keys = [*TEXTS, *UNKNOWN, "17850", " 17850.00", "0", "00", "017", "1e3", "3999999999999999", "4000000000000001"]
    keys += ["175928847299117063", "9223372036854775807", "9223372036854775808", "9" * 19]
    with keyed_template.connect() as conn:
        for key in keys:
            one = f"select {USER_OF_KEY.replace('$2', '%(key)s')}, ubp.resolve_member(%(key)s)"
            found = conn.execute(one.encode(), {"key": key}).fetchone()
            assert found is not None
            assert found[0] == found[1], key


def test_an_integer_id_of_an_attached_table_is_its_own_key(keyed_template: Database) -> None:
    """However long; one that was assigned to another key is not taken."""
    with keyed_template.connect() as conn:
        assigned = conn.execute("select user_id from ubp.users where user_id > 4000000000000000 limit 1").fetchone()
        assert assigned is not None
        wanted = {
            "175928847299117063": 175928847299117063,
            " 175928847299117063.0 ": 175928847299117063,
            "9223372036854775807": 9223372036854775807,
            "9223372036854775808": None,
            str(assigned[0]): None,
        }
        for key, user_id in wanted.items():
            found = conn.execute("select ubp.resolve_user(%s), ubp.resolve_member(%s)", [key, key]).fetchone()
            assert found == (user_id, user_id), key
