"""Models into the registry."""

import json
from typing import Any

from ubp_sql import __version__
from ubp_sql.api.moments import feature_set
from ubp_sql.api.session import Row, check_version, entry, run, single
from ubp_sql.errors import BadInput, FeatureSetMismatch, UnknownTask
from ubp_sql.models.blob import blob_hash, compile_forest
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


def task_row(plpy: Any, memory: dict[str, Any], task: str) -> Row:
    """The task, locked: what deploys, retires and registers for one task goes one after the other.

    Raises UnknownTask (UB001).
    """
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
    row = task_row(plpy, memory, task)
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
