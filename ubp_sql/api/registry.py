"""Models into the registry."""

import json
from typing import Any

from ubp_sql import __version__
from ubp_sql.api.model_checks import first_status
from ubp_sql.api.moments import feature_set
from ubp_sql.api.session import Row, check_version, entry, run, single
from ubp_sql.errors import BadInput, FeatureSetMismatch, UbpError, UnknownTask
from ubp_sql.models.blob import blob_hash
from ubp_sql.models.formats import read_model

TASK = "select task, feature_set_id, population_kind from ubp.task_definitions where task = $1 for update"
NEW_MODEL = """
insert into ubp.models (task, version, format, source, compiled, compiled_sha256, feature_set_id, feature_set_hash,
                        objective, trees, settings, data_from, data_until, code_version, status, checked,
                        preparation, explainer)
select $1, coalesce(max(m.version), 0) + 1, $13, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $14, $15, $16, $17
  from ubp.models m where m.task = $1
returning model_id, version"""
UNEXPLAINED = """
select m.model_id from ubp.models m
 where m.explainer is null and m.format in ('lightgbm', 'xgboost') and m.trees > 0 and m.retired_at is null
   and m.preparation is null
   and exists (select from ubp.deployments d left join ubp.deployment_arms a using (deployment_id)
                where m.model_id in (d.model_id, a.model_id)) order by m.model_id"""
SOURCE = "select source, compiled, feature_set_id from ubp.models where model_id = $1"
EXPLAINED = "update ubp.models set explainer = $2 where model_id = $1"
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
        raise BadInput("the model is NULL", "pass the bytes of a model file")
    measured = _measured(metrics)
    found = feature_set(plpy, memory, row["feature_set_id"])
    names = tuple(feature.name for feature in found.definition.features)
    try:
        imported = read_model(bytes(model), names)
    except FeatureSetMismatch as error:
        raise FeatureSetMismatch(f"feature set {found.name!r}: {error.message}", error.hint) from None
    if not imported.by_name:
        plpy.warning(
            f"the model names no features: its {len(names)} inputs are taken in the order of set {found.name!r}",
            hint="ubp.feature_catalogue.position is that order",
        )
    if not imported.takes_missing:
        plpy.warning(
            "users with a missing feature (NULL) get no score: the model has no value in its place",
            hint="put an imputer before it",
        )
    types = ["text", "bytea", "bytea", "text", "integer", "text", "text", "integer", "jsonb"]
    types += [*["timestamptz"] * 2, *["text"] * 3, *["jsonb"] * 2, "bytea"]
    sha256 = blob_hash(imported.compiled)
    values: list[Any] = [task, model, imported.compiled, sha256]
    values += [found.feature_set_id, found.definition.hash]
    values += [imported.objective, imported.trees, settings or "{}", data_from, data_until, __version__]
    values += [imported.format, *first_status(plpy, memory, imported.compiled, sha256)]
    values += [imported.preparation, imported.explainer]
    new = single(plpy, memory, NEW_MODEL, types, values)
    assert new is not None  # noqa: S101 - INSERT ... SELECT of an aggregate always gives a row
    types = ["bigint", "timestamptz", "text", "double precision", "bigint", "bigint", "text"]
    for values in measured:
        run(plpy, memory, NEW_METRIC, types, [new["model_id"], *values])
    return int(new["version"])


def add_explainers(plpy: Any, memory: dict[str, Any]) -> int:
    """Compiles explainers of models in use that have none though their files may give them; returns how many have one
    now. They are as good as new: of the same file, bound to the same compiled form.
    """
    added = 0
    for key in [row["model_id"] for row in run(plpy, memory, UNEXPLAINED, [], [])]:
        row = run(plpy, memory, SOURCE, ["bigint"], [key])[0]
        try:
            found = feature_set(plpy, memory, row["feature_set_id"])
            imported = read_model(row["source"], tuple(feature.name for feature in found.definition.features))
        except UbpError:  # such a model cannot answer either, and whoever asks it is told
            continue
        if imported.explainer is not None and imported.compiled == row["compiled"]:
            run(plpy, memory, EXPLAINED, ["bigint", "bytea"], [key, imported.explainer])
            added += 1
    return added


def _measured(metrics: str | None) -> list[list[Any]]:
    """Rows of ubp.model_metrics out of the argument `metrics`. Raises BadInput (UB003) on any other form."""
    try:
        return [[m[name] for name in METRIC_FIELDS] for m in json.loads(metrics or "[]")]
    except (TypeError, KeyError):
        raise BadInput("metrics is no list of measurements", f"objects with {', '.join(METRIC_FIELDS)}") from None
