"""The facts of a report out of the database, all in one snapshot."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg

from ubp_sql.errors import NoModelDeployed, unknown_task
from ubp_sql.features.label_rule import LabelRule
from ubp_sql.install import state
from ubp_sql.training.report.curves import Bin, wilson
from ubp_sql.training.report.facts import Calibration, Facts, HeldOut, Map, Model, Scored, Task
from ubp_sql.training.report.read_effects import effects, importance, studied
from ubp_sql.training.report.read_examples import groups

Connection = psycopg.Connection[Any]

TASK = """
select t.task as name, t.meaning, t.label as rule, t.population_kind, t.horizon, t.feature_set,
       t.output = 'amount' as amount, t.deployed_version, t.as_of
  from ubp.tasks t where t.task = %s"""
MODEL = """
select m.model_id, m.version, m.format, m.objective, m.trees, s.name as feature_set, m.feature_set_hash,
       (select count(*) from ubp.feature_definitions d where d.feature_set_id = m.feature_set_id) as features,
       m.data_from, m.data_until, m.settings, m.code_version, m.created_by, m.created_at, m.status, m.compiled_sha256,
       m.preparation
  from ubp.models m join ubp.feature_sets s using (feature_set_id)
 where m.task = %s and m.version = %s"""
TESTS = """
select cut, users, scores, labels, protocol from ubp.model_tests where model_id = %s and part = 'test' order by cut"""
METRICS = """
select cut, metric, value, n, positives, protocol from ubp.model_metrics where model_id = %s order by cut, metric"""
CALIBRATION = """
select calibrated, method, error, low, high, log_loss, brier, bin_n, bin_score, bin_share
  from ubp.calibration_tests where model_id = %s and cut = %s and (method is not null or not calibrated)"""
DEPLOYED = """
select d.deployed_at, m.map_id, m.method, m.n, m.cuts
  from ubp.deployments d left join ubp.calibration_maps m using (map_id)
 where d.model_id = %s and d.deployed_at <= statement_timestamp() and d.retired_at > statement_timestamp()"""
SCORED = """
select as_of, scored_at, reason, count(*) as users from ubp.user_scores where task = %s and version = %s
 group by as_of, scored_at, reason order by users desc, reason"""


def facts(conn: Connection, task: str, version: int | None, examples: int) -> Facts:
    """What there is to say about a version, the deployed one for None.

    examples  users a group of examples; 0: none

    Raises UnknownTask (UB001), NoModelDeployed (UB004).
    """
    with conn.transaction():
        conn.execute("set transaction isolation level repeatable read, read only")
        return _facts(conn, task, version, examples)


def _facts(conn: Connection, name: str, version: int | None, examples: int) -> Facts:
    found = state.rows(conn, TASK, name)
    if not found:
        raise unknown_task(name)
    task = Task(**found[0], label=LabelRule.from_json(json.loads(found[0]["rule"])).words)
    chosen = task.deployed_version if version is None else version
    if chosen is None:
        raise NoModelDeployed(
            f"no model is deployed for task {name!r}",
            f"ubp-sql train {name} trains and deploys one; --version names one that is not deployed",
        )
    models = state.rows(conn, MODEL, name, chosen)
    if not models:
        raise NoModelDeployed(f"task {name!r} has no version {chosen}", "ubp-sql model list shows the versions")
    model = Model(**models[0])
    tests = [_test(row) for row in _binary(conn, TESTS, model.model_id)]
    deployed = state.rows(conn, DEPLOYED, model.model_id)
    scored = _scored(conn, name, chosen)
    return Facts(
        task,
        model,
        f"PostgreSQL {conn.info.server_version // 10_000}",
        tests,
        state.rows(conn, METRICS, model.model_id),
        _calibration(conn, model.model_id, tests),
        Map(*(deployed[0][key] for key in ("map_id", "method", "n", "cuts")))
        if deployed and deployed[0]["map_id"]
        else None,
        deployed[0]["deployed_at"] if deployed else None,
        scored,
        importance(conn, name, chosen),
        effects(conn, name, chosen),
        studied(conn, name, chosen),
        groups(conn, task, scored, chosen, tests, examples),
    )


def _binary(conn: Connection, query: str, *arguments: object) -> Sequence[dict[str, Any]]:
    with conn.cursor(row_factory=psycopg.rows.dict_row, binary=True) as cursor:
        return cursor.execute(query, arguments).fetchall()


def _test(row: dict[str, Any]) -> HeldOut:
    users = np.frombuffer(row["users"], "<i8").astype(np.int64)
    scores, labels = (np.frombuffer(row[key], "<f8").astype(np.float64) for key in ("scores", "labels"))
    return HeldOut(row["cut"], users, scores, labels, row["protocol"])


def _calibration(conn: Connection, model_id: int, tests: Sequence[HeldOut]) -> dict[bool, Calibration]:
    """Of the newest test, by whether it is after the map."""
    if not tests:
        return {}
    found = {}
    for row in state.rows(conn, CALIBRATION, model_id, tests[-1].cut):
        columns = zip(row["bin_n"], row["bin_score"], row["bin_share"], strict=True)
        bins = [Bin(n, score, share, *wilson(share * n, n)) for n, score, share in columns]
        values = {key: row[key] for key in ("method", "error", "low", "high", "log_loss", "brier")}
        found[row["calibrated"]] = Calibration(**values, bins=bins)
    return found


def _scored(conn: Connection, task: str, version: int) -> Scored | None:
    rows = state.rows(conn, SCORED, task, version)
    if not rows:
        return None
    scored = sum(row["users"] for row in rows if row["reason"] is None)
    without = [(row["reason"], row["users"]) for row in rows if row["reason"] is not None]
    return Scored(rows[0]["as_of"], rows[0]["scored_at"], scored, without)
