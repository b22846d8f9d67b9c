"""DESIGN D8: whatever the planner is told, no function fails in, or takes the server down from, a parallel worker."""

from random import Random

import psycopg
import pytest

import ubp_sql
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


EMPTY = (
    "select ubp.version()",
    "select ubp.resolve_user(x::text) from generate_series(1, 3) x",
    "select ubp.predict('no_task', x) from public.numbers",
    "select ubp.predict('no_task', x, now()) from public.numbers",
    "select ubp.predict('no_task', x::text) from public.numbers",
    "select (ubp.predict_detail('no_task', x)).score from public.numbers",
    "select * from public.numbers, ubp.predict_many('no_task', array[x])",
    "select ubp.score('no_task', array[x]::float8[]) from public.numbers",
    "select ubp.score_all('no_task', array[x]::float8[]) from public.numbers",
    "select f.* from public.numbers, ubp.features(x) f",
)


@pytest.mark.parametrize("query", EMPTY)
def test_unsafe_functions_stay_with_the_leader(db: Database, query: str) -> None:
    """With nothing trained they answer or refuse with an error of ours; they never meet a worker."""
    db.execute("create table public.numbers as select x::bigint from generate_series(1, 500) x")
    with db.connect() as conn:
        force(conn)
        try:
            plan, state = plan_of(conn, query), "UB"
        except psycopg.Error as error:
            plan, state = "", str(error.sqlstate)
        assert "Gather" not in plan
        assert state.startswith("UB")
        still_alive(conn)


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
    shop_copy.execute("create table public.audience as select user_id from ubp.user_features limit 150")
    shop_copy.execute("analyze public.audience")
    with shop_copy.connect() as conn:
        force(conn)
        conn.execute(query.encode()).fetchall()
        still_alive(conn)
        assert "Gather" not in plan_of(conn, query)
        still_alive(conn)
