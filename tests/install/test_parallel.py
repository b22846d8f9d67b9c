"""DESIGN D8: whatever the planner is told, no function fails in, or takes the server down from, a parallel worker."""

from random import Random

import psycopg
import pytest

import ubp_sql
from tests.every_function import Connection, functions, undescribed
from tests.fix_database import Database
from tests.models.forest_makers import random_tree, written
from ubp_sql.models.blob import compile_forest
from ubp_sql.models.lightgbm_text import parse

FORCED = (
    "set parallel_setup_cost = 0",
    "set parallel_tuple_cost = 0",
    "set min_parallel_table_scan_size = 0",
    "set max_parallel_workers_per_gather = 2",
    "set parallel_leader_participation = off",
    "set jit_above_cost = 0",
)
FEATURES = 3


def expected(state: str) -> bool:
    return state == "0" or state.startswith("UB")


def force(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    """Makes the planner use workers wherever a query may run in them."""
    for statement in FORCED:
        conn.execute(statement.encode())
    name = "debug_parallel_query" if conn.info.server_version >= 160000 else "force_parallel_mode"
    conn.execute(f"set {name} = on".encode())


def plan_of(conn: psycopg.Connection[tuple[object, ...]], query: str, *arguments: object) -> str:
    rows = conn.execute(f"explain (analyze, costs off, timing off) {query}".encode(), arguments or None).fetchall()
    return "\n".join(str(row[0]) for row in rows)


def still_alive(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    """The crash of an unsafe function came at the session's next PL/Python call."""
    row = conn.execute("select ubp.version()").fetchone()
    assert row == (ubp_sql.__version__,)


@pytest.mark.parametrize("function", ["ubp.score_blob({})", "(ubp.score_blob_all({}))[1]"])
def test_score_blob_runs_in_workers(db: Database, function: str) -> None:
    random = Random(1)
    trees = [random_tree(random, FEATURES, 8) for _ in range(3)]
    blob = compile_forest(parse(written(trees, FEATURES, "regression")))
    call = function.format("%s::bytea, array[x, x / 2.0, null]::float8[]")
    query = f"select sum({call}) from public.numbers"
    db.execute("create table public.numbers as select x::float8 from generate_series(1, 5000) x")
    with db.connect() as conn:
        expected = conn.execute(query, (blob,)).fetchone()
        force(conn)
        plan = plan_of(conn, query, blob)
        assert "Workers Launched: 2" in plan
        found = conn.execute(query, (blob,)).fetchone()
        assert found is not None
        assert expected is not None
        assert found[0] == pytest.approx(expected[0])
        still_alive(conn)


def tried(conn: Connection, call: str, table: str = "public.numbers") -> str:
    """SQLSTATE of a call for each row of a table under a forced Gather, undone; `0` where it answers."""
    try:
        conn.execute("begin")
        conn.execute(f"select {call} from {table}".encode()).fetchall()
        return "0"
    except psycopg.Error as error:
        return str(error.sqlstate)
    finally:
        conn.execute("rollback")


def every_call(database: Database) -> dict[str, str]:
    """SQLSTATE of each call of every function and of reading each view, in one session that goes on after each."""
    database.execute("create table public.numbers as select coalesce(min(user_id), 7) as x from ubp.feature_rows")
    database.execute("insert into public.numbers values (1000000007)")
    said = {}
    with database.connect() as conn:
        assert undescribed(conn) == []
        force(conn)
        conn.execute("set jit = off")  # half a minute of compiling queries that are run once
        for function in functions(conn):
            for call in function.calls():
                said[call] = tried(conn, call)
                still_alive(conn)
        for (view,) in conn.execute("select viewname from pg_views where schemaname = 'ubp'").fetchall():
            said[str(view)] = tried(conn, "*", f"ubp.{view}")
            still_alive(conn)
    return said


def test_no_function_fails_under_a_gather_with_nothing_trained(db: Database) -> None:
    said = every_call(db)
    assert {call: state for call, state in said.items() if not expected(state)} == {}


def test_no_function_fails_under_a_gather(shop_copy: Database) -> None:
    said = every_call(shop_copy)
    assert {call: state for call, state in said.items() if not expected(state)} == {}
    assert sum(state == "0" for state in said.values()) > 100


SCORING = (
    "select ubp.predict_purchase(user_id) from public.audience",
    "select ubp.predict_purchase(user_id::text) from public.audience",
    "select ubp.predict('purchase', user_id) from public.audience where ubp.predict('purchase', user_id) > 0",
    "select max(ubp.predict('purchase', user_id)) from public.audience",
    "select ubp.predict_purchase(a.user_id, t.as_of) from (select * from public.audience limit 3) a, ubp.tasks t",
    "select d.* from public.audience, ubp.predict_detail('purchase', user_id) d",
    "select m.* from ubp.predict_many('purchase', (select array_agg(user_id) from public.audience)) m",
    "select f.* from (select user_id from public.audience limit 2) a, ubp.features(a.user_id) f",
    "select * from ubp.score_users('purchase')",
    "select count(*) from (select * from ubp.user_features limit 100) f where ubp.predict_purchase(f.user_id) > 0",
)


@pytest.mark.parametrize("query", SCORING)
def test_scoring_under_a_forced_gather(shop_copy: Database, query: str) -> None:
    shop_copy.execute("create table public.audience as select user_id from ubp.user_features limit 40")
    shop_copy.execute("analyze public.audience")
    with shop_copy.connect() as conn:
        force(conn)
        conn.execute(query.encode()).fetchall()
        still_alive(conn)
        assert "Gather" not in plan_of(conn, query)
        still_alive(conn)
