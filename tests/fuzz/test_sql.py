"""Mutants handed to the server: they neither end a session nor get a wrong score."""

import math
from array import array
from collections import Counter
from typing import Any

import psycopg

from tests.fix_database import Database
from tests.fuzz import seeds as seed_files
from tests.fuzz.mutants import mutant
from tests.fuzz.targets import NAMES, READERS
from ubp_sql.models.loaded import open_model

MUTANTS = 400
ROW = [0.25, -1.0, 3.0, None, 40.0]


def answer(conn: psycopg.Connection[Any], query: str, *arguments: object) -> tuple[str, Any]:
    """SQLSTATE and the first column, or the message."""
    try:
        row = conn.execute(query, arguments).fetchone()
    except psycopg.Error as error:
        return str(error.sqlstate), str(error.diag.message_primary)
    assert row is not None
    return "00000", row[0]


def test_blobs_by_sql(db: Database) -> None:
    """What any analyst can send to ubp.score_blob_all."""
    names = ["trees", "linear", "network"]
    seeds = seed_files.make(names)
    targets = [READERS[name].target for name in names]
    states: Counter[str] = Counter()
    packed = array("f", [math.nan if v is None else v for v in ROW]).tobytes()
    with db.connect() as conn:
        conn.execute("set role ubp_analyst")
        for index in range(MUTANTS):
            data = mutant(targets, seeds, 9, index).data
            state, said = answer(conn, "select ubp.score_blob_all(%s, %s::float8[])", data, ROW)
            states[state] += 1
            if state == "00000":
                scores = [None if score != score else score for score in open_model(data).all_packed(packed)]
                assert list(map(repr, said)) == list(map(repr, scores))
            else:
                assert said.isprintable()
        assert conn.execute("select pg_backend_pid()").fetchone() == (conn.info.backend_pid,)
    assert set(states) <= {"00000", "UB003", "UB006", "UB007"}
    assert states["00000"] > 20


def test_files_by_sql(db: Database) -> None:
    """Files of every format to ubp.register_model, for a set that has the seeds' features."""
    names = ["lightgbm", "xgboost_json", "xgboost_ubj", "onnx_trees", "onnx_linear", "onnx_networks"]
    seeds = seed_files.make(names)
    targets = [READERS[name].target for name in names]
    with db.connect() as conn:
        for name in NAMES:
            conn.execute("select ubp.define_feature(%s, 'count', array['view'])", [name])
        conn.execute("select ubp.define_task('views', 'view')")
        register = "select ubp.register_model('views', %s)"
        states = Counter(answer(conn, register, mutant(targets, seeds, 9, index).data)[0] for index in range(MUTANTS))
        assert conn.execute("select pg_backend_pid()").fetchone() == (conn.info.backend_pid,)
    assert set(states) == {"00000", "UB002", "UB006", "UB007"}
