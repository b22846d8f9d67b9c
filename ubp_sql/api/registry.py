"""Models into the registry, versions into service and out of it."""

import json
from typing import Any

from ubp_sql import __version__
from ubp_sql.api.catalogue import make_predict
from ubp_sql.api.moments import feature_set
from ubp_sql.api.session import check_version, entry, run, single
from ubp_sql.errors import BadInput, FeatureSetMismatch, NoModelDeployed, UnknownTask, UnsupportedModel
from ubp_sql.models.blob import blob_hash, compile_forest, outputs_of
from ubp_sql.models.lightgbm_text import parse

TASK = "select task, feature_set_id, population_kind from ubp.task_definitions where task = $1 for update"
NEW_MODEL = """
insert into ubp.models (task, version, format, source, compiled, compiled_sha256, feature_set_id, feature_set_hash,
                        objective, trees, settings, data_from, data_until, code_version)
select $1, coalesce(max(m.version), 0) + 1, 'lightgbm', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12
  from ubp.models m where m.task = $1
returning model_id, version"""
METRIC_FIELDS = ("cut", "metric", "value", "n", "positives", "protocol")
NEW_METRIC = """
insert into ubp.model_metrics (model_id, cut, metric, value, n, positives, protocol)
values ($1, $2, $3, $4, $5, $6, $7)"""
# The set's row stays locked: between the look at its hash and the deployment it must not grow.
VERSION = """
select m.model_id, m.version, m.compiled_sha256, substr(m.compiled, 1, 64) as head, m.feature_set_id, m.feature_set_hash,
       s.hash as present_hash
  from ubp.models m join ubp.feature_sets s using (feature_set_id)
 where m.task = $1 and ($2 is null or m.version = $2) order by m.version desc limit 1
   for share of s"""
RETIRE = "update ubp.deployments set retired_at = now() where task = $1 and retired_at is null returning version"
DEPLOY = """
insert into ubp.deployments
  (task, model_id, version, compiled_sha256, feature_set_id, feature_set_hash, population_position)
values ($1, $2, $3, $4, $5, $6, $7)"""
HISTORY = "select version from ubp.deployments where task = $1 order by deployment_id"


def _task(plpy: Any, memory: dict[str, Any], task: str) -> dict[str, Any]:
    row = single(plpy, memory, TASK, ["text"], [task])
    if row is None:
        raise UnknownTask(f"unknown task {task!r}", "ubp.define_task defines it; select task from ubp.tasks lists them")
    return row


@entry
def register_model(
    plpy: Any,
    memory: dict[str, Any],
    task: str,
    model: bytes,
    settings: str | None,
    data_from: str | None,
    data_until: str | None,
    metrics: str | None,
) -> int:
    """Parses, checks against the task's feature set, compiles and stores; returns the version."""
    check_version(plpy, memory)
    row = _task(plpy, memory, task)
    if model is None:
        raise BadInput("the model is NULL", "pass the bytes of a LightGBM text model")
    measured = _measured(metrics)
    found = feature_set(plpy, memory, row["feature_set_id"])
    forest = parse(bytes(model))
    names = tuple(feature.name for feature in found.definition.features)
    try:
        forest = forest.ordered_as(names)
    except ValueError as error:
        raise FeatureSetMismatch(
            f"the model does not fit feature set {found.name!r}: {error}",
            "train it on all columns of ubp.training_matrix of this task, in any order, under their names",
        ) from None
    compiled = compile_forest(forest)
    types = ["text", "bytea", "bytea", "text", "integer", "text"]
    types += ["text", "integer", "jsonb", "timestamptz", "timestamptz", "text"]
    values = [task, model, compiled, blob_hash(compiled), found.feature_set_id, found.definition.hash]
    values += [forest.objective, len(forest.trees), settings or "{}", data_from, data_until, __version__]
    new = single(plpy, memory, NEW_MODEL, types, values)
    assert new is not None  # noqa: S101 - INSERT ... SELECT of an aggregate always gives a row
    types = ["bigint", "timestamptz", "text", "double precision", "bigint", "bigint", "text"]
    for values in measured:
        run(plpy, memory, NEW_METRIC, types, [new["model_id"], *values])
    return int(new["version"])


def _measured(metrics: str | None) -> list[list[Any]]:
    """Rows of ubp.model_metrics out of the argument `metrics`. Raises BadInput (UB003) on any other form."""
    try:
        return [[m[name] for name in METRIC_FIELDS] for m in json.loads(metrics or "[]")]
    except (TypeError, KeyError):
        raise BadInput("metrics is no list of measurements", f"objects with {', '.join(METRIC_FIELDS)}") from None


@entry
def deploy_model(plpy: Any, memory: dict[str, Any], task: str, version: int | None) -> int:
    """Makes a version answer for its task; the first deployment makes predict_<task>."""
    check_version(plpy, memory)
    return _deploy(plpy, memory, _task(plpy, memory, task), version)


@entry
def rollback_model(plpy: Any, memory: dict[str, Any], task: str) -> int:
    """Makes the version that answered before the present one answer again."""
    check_version(plpy, memory)
    row = _task(plpy, memory, task)
    kept = undone([found["version"] for found in run(plpy, memory, HISTORY, ["text"], [task])])
    if len(kept) < 2:
        raise NoModelDeployed(
            f"task {task!r} has no earlier version to go back to", "ubp.deploy_model takes a version by number"
        )
    return _deploy(plpy, memory, row, kept[-2])


def undone(deployed: list[int]) -> list[int]:
    """Versions still to go back through, newest last: deploying the one below the top takes the top off.

    So rollbacks after 1, 2, 3 give 2, then 1, and not 2, 3, 2.
    """
    kept: list[int] = []
    for version in deployed:
        if len(kept) > 1 and kept[-2] == version:
            kept.pop()
        elif not kept or kept[-1] != version:
            kept.append(version)
    return kept


def _deploy(plpy: Any, memory: dict[str, Any], task: dict[str, Any], version: int | None) -> int:
    name = task["task"]
    row = single(plpy, memory, VERSION, ["text", "integer"], [name, version])
    if row is None:
        which = "no model" if version is None else f"no version {version}"
        raise NoModelDeployed(f"task {name!r} has {which}", "select * from ubp.model_versions lists what there is")
    if (outputs := outputs_of(row["head"])) > 1:
        raise UnsupportedModel(
            f"version {row['version']} of {name!r} has {outputs} outputs, ubp.predict gives one",
            f"ubp.score_all({name!r}, features, {row['version']}) gives all of them; or train one binary model a class",
        )
    if row["feature_set_hash"] != row["present_hash"]:
        raise FeatureSetMismatch(
            f"version {row['version']} was trained on another definition of its feature set", "train again"
        )
    found = feature_set(plpy, memory, row["feature_set_id"])
    # A score is for the task's population: users whose lifetime count of its kind is at least 1.
    lifetime = found.definition.lifetime_count(task["population_kind"])
    if lifetime is None:
        raise BadInput(
            f"feature set {found.name!r} has no number of all {task['population_kind']} events",
            "define the task on a set that has one: whom to score would not be known",
        )
    run(plpy, memory, RETIRE, ["text"], [name])
    key = [
        name,
        row["model_id"],
        row["version"],
        row["compiled_sha256"],
        row["feature_set_id"],
        row["feature_set_hash"],
    ]
    run(plpy, memory, DEPLOY, ["text", "bigint", "integer", "text", "integer", "text", "integer"], [*key, lifetime + 1])
    make_predict(plpy, name)
    return int(row["version"])
