"""Feature sets and tasks: what is computed, what is predicted, and the objects generated from them."""

import re
from typing import Any

from ubp_sql.api.moments import FeatureSet, feature_set
from ubp_sql.api.session import check_version, entry, run, single
from ubp_sql.errors import BadInput, NotReady
from ubp_sql.features.definition import FeatureSetDefinition

KINDS_FOUND = """
select kind from (select kind, count(*) as n, sum(count(*)) over () as total from ubp.events group by kind) k
 where n >= 0.005 * total order by kind <> 'purchase', n desc, kind limit 8"""
MAIN_ZONE = """
select s.time_zone from (select source, count(*) as n from ubp.events group by source) e
  join ubp.sources s on s.source_id = e.source order by e.n desc, s.source_id limit 1"""
NEW_SET = """
insert into ubp.feature_sets (name, hash, definition, time_zone) values ($1, $2, $3, $4)
on conflict (name) do nothing returning feature_set_id"""
NEW_FEATURE = """
insert into ubp.feature_definitions
  (feature_set_id, position, name, family, kind, window_days, unit, meaning, null_rule, sql_type)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"""
ZONE = "select 1 as found from pg_timezone_names where name = $1"
SAME_TASK = """
select label_kind = $2 and population_kind = $3 and horizon = $4 and feature_set_id = $5 as same
  from ubp.task_definitions where task = $1"""
NEW_TASK = """
insert into ubp.task_definitions (task, meaning, label_kind, population_kind, horizon, feature_set_id)
values ($1, $2, $3, $4, $5, $6)"""
# The trainer keeps label windows of past cuts clear of the test cut: months and years differ in length.
HORIZON = """
select $1 > interval '0' and $1 <= interval '36500 days' and date_trunc('month', $1) = interval '0' as good"""
SETS = "select feature_set_id from ubp.feature_sets order by feature_set_id"
DEPLOYED = "select distinct task from ubp.deployments order by task"

TASK_NAME = re.compile(r"[a-z][a-z0-9_]{0,50}")
# user_features_<name> must fit the 63 letters that PostgreSQL keeps of an identifier.
SET_NAME = re.compile(r"[a-z][a-z0-9_]{0,48}")
# Names of ours that predict_<task> would collide with.
RESERVED_TASKS = {"detail", "many", "if"}


@entry
def define_feature_set(
    plpy: Any, memory: dict[str, Any], name: str, kinds: list[str] | None, windows: list[int] | None, zone: str | None
) -> int:
    """Registers a set and makes its view; returns how many features it has."""
    check_version(plpy, memory)
    if kinds is None:
        return define_found_kinds(plpy, memory, name, windows, zone)
    return _define(plpy, memory, name, _definition(kinds, windows), zone or _main_zone(plpy, memory))


def define_found_kinds(
    plpy: Any, memory: dict[str, Any], name: str, windows: list[int] | None = None, zone: str | None = None
) -> int:
    """A set over the kinds that make up at least 0.5 % of the events, purchase first, else the most frequent."""
    kinds: list[str] = []
    for row in run(plpy, memory, KINDS_FOUND, [], []):
        # One feed's odd name must not keep everybody from their first features.
        try:
            FeatureSetDefinition((*kinds, row["kind"]))
        except BadInput as error:
            plpy.notice(f"kind {row['kind']!r} is left out of feature set {name}: {error.message}")
        else:
            kinds.append(row["kind"])
    if not kinds:
        raise NotReady("ubp.events is empty: there are no kinds to take", "load events, or name the kinds")
    return _define(plpy, memory, name, _definition(kinds, windows), zone or _main_zone(plpy, memory))


def _main_zone(plpy: Any, memory: dict[str, Any]) -> str:
    """The zone of the source with most events: there as_of's own hour and weekday mean what people think."""
    row = single(plpy, memory, MAIN_ZONE, [], [])
    return row["time_zone"] if row else "UTC"


def _definition(kinds: list[str], windows: list[int] | None) -> FeatureSetDefinition:
    if None in kinds or (windows is not None and None in windows):
        raise BadInput("kinds and windows must not hold NULL")
    return FeatureSetDefinition(tuple(kinds)) if windows is None else FeatureSetDefinition(tuple(kinds), tuple(windows))


def _define(plpy: Any, memory: dict[str, Any], name: str, definition: FeatureSetDefinition, zone: str) -> int:
    if not name or not SET_NAME.fullmatch(name):
        raise BadInput(f"{name!r} is no name for a feature set", "lower-case letters, digits and _, at most 49")
    if single(plpy, memory, ZONE, ["text"], [zone]) is None:
        raise BadInput(f"unknown time zone {zone!r}", "select name from pg_timezone_names lists them")
    types = ["text", "text", "jsonb", "text"]
    new = single(plpy, memory, NEW_SET, types, [name, definition.hash, definition.to_json(), zone])
    if new is None:
        raise BadInput(f"feature set {name!r} exists and a set never changes", "give the new definition another name")
    types = ["integer", "integer", "text", "text", "text", "integer", "text", "text", "text", "text"]
    for f in definition.features:
        row = [
            new["feature_set_id"],
            f.position + 1,
            f.name,
            f.family,
            f.kind,
            f.window_days,
            f.unit,
            f.meaning,
            f.null_rule,
        ]
        run(plpy, memory, NEW_FEATURE, types, [*row, f.sql_type])
    _make_view(plpy, feature_set(plpy, memory, name))
    return len(definition.features)


def _make_view(plpy: Any, found: FeatureSet) -> None:
    """ubp.user_features (set default) or ubp.user_features_<name>: one named, typed, commented column per feature."""
    view = plpy.quote_ident("user_features" if found.name == "default" else f"user_features_{found.name}")
    columns = []
    for f in found.definition.features:
        value = f"nullif(r.features[{f.position + 1}], 'NaN')"
        columns.append(f"{value}::{f.sql_type} as {plpy.quote_ident(f.name)}")
    statements = [
        # every part is quoted or a number of ours
        f"create or replace view ubp.{view} as select r.user_id, r.as_of, {', '.join(columns)}"  # noqa: S608
        f" from ubp.feature_rows r where r.feature_set_id = {found.feature_set_id}",
        f"comment on view ubp.{view} is {plpy.quote_literal(f'Features of set {found.name}, one row a user')}",
        f"grant select on ubp.{view} to ubp_analyst, ubp_auditor, ubp_loader, ubp_reader",
    ]
    for f in found.definition.features:
        meaning = plpy.quote_literal(f"{f.meaning} [{f.unit}]")
        statements.append(f"comment on column ubp.{view}.{plpy.quote_ident(f.name)} is {meaning}")
    for statement in statements:
        plpy.execute(statement)


@entry
def define_task(
    plpy: Any,
    memory: dict[str, Any],
    task: str,
    label_kind: str,
    population_kind: str | None,
    horizon: str,
    set_name: str,
    meaning: str | None,
) -> None:
    """One row of ubp.task_definitions; the same definition again changes nothing."""
    check_version(plpy, memory)
    if not task or not TASK_NAME.fullmatch(task) or task in RESERVED_TASKS:
        raise BadInput(
            f"{task!r} is no name for a task", "lower-case letters, digits and _, at most 51; it names predict_<task>"
        )
    found = feature_set(plpy, memory, set_name)
    population_kind = population_kind or label_kind
    for kind in (label_kind, population_kind):
        if kind not in found.definition.kinds:
            raise BadInput(
                f"feature set {set_name!r} does not cover the kind {kind!r}",
                f"its kinds: {', '.join(found.definition.kinds)}; ubp.define_feature_set makes another",
            )
    row = single(plpy, memory, HORIZON, ["interval"], [horizon])
    if row is None or not row["good"]:
        raise BadInput(f"horizon {horizon} is not a positive number of days or hours", "for example interval '30 days'")
    key = [task, label_kind, population_kind, horizon, found.feature_set_id]
    same = single(plpy, memory, SAME_TASK, ["text", "text", "text", "interval", "integer"], key)
    if same is not None:
        if not same["same"]:
            raise BadInput(f"task {task!r} exists with another definition", "give the new task another name")
        return
    meaning = meaning or f"an event of kind {label_kind} within the horizon"
    types = ["text", "text", "text", "text", "interval", "integer"]
    run(plpy, memory, NEW_TASK, types, [task, meaning, label_kind, population_kind, horizon, found.feature_set_id])


@entry
def rebuild_generated(plpy: Any, memory: dict[str, Any]) -> int:
    """Makes the view of every feature set and the functions of every deployed task; returns how many tasks and sets."""
    sets = [row["feature_set_id"] for row in run(plpy, memory, SETS, [], [])]
    for key in sets:
        _make_view(plpy, feature_set(plpy, memory, key))
    tasks = [row["task"] for row in run(plpy, memory, DEPLOYED, [], [])]
    for task in tasks:
        make_predict(plpy, task)
    return len(sets) + len(tasks)


# A body in SQL-standard form is bound when made: no search_path can change what it calls, and it is inlined, so
# predict_<task> costs nothing over predict.
FORMS = (
    ("user_id bigint", "bigint", "user_id"),
    ("user_id bigint, as_of timestamptz", "bigint, timestamptz", "user_id, as_of"),
    ("user_key text", "text", "user_key"),
    ("user_key text, as_of timestamptz", "text, timestamptz", "ubp.resolve_user(user_key), as_of"),
)


def make_predict(plpy: Any, task: str) -> None:
    """ubp.predict_<task>, in its four forms."""
    name = plpy.quote_ident(f"predict_{task}")
    literal = plpy.quote_literal(task)
    meaning = plpy.quote_literal(f"Score of one user for task {task}; see ubp.predict")
    for parameters, types, arguments in FORMS:
        for statement in (
            f"create or replace function ubp.{name}({parameters}) returns double precision language sql stable"
            f" parallel unsafe begin atomic select ubp.predict({literal}::text, {arguments}); end",
            f"comment on function ubp.{name}({types}) is {meaning}",
            f"revoke all on function ubp.{name}({types}) from public",
            f"grant execute on function ubp.{name}({types}) to ubp_analyst, ubp_auditor, ubp_loader",
        ):
            plpy.execute(statement)
