"""Feature sets: what is computed, and the objects generated from them and from tasks."""

import json
import re
from collections.abc import Sequence
from typing import Any

from ubp_sql.api.event_rows import rebuild_event_rows
from ubp_sql.api.heap import declared_columns
from ubp_sql.api.moments import FeatureSet, feature_set
from ubp_sql.api.session import check_version, entry, run, single
from ubp_sql.api.set_view import view_statements
from ubp_sql.api.sources import rebuild_source_functions
from ubp_sql.errors import BadInput, FeatureSetMismatch, NotReady
from ubp_sql.features.compile import kinds_of
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.spec import FeatureSpec
from ubp_sql.features.suggest import meant
from ubp_sql.features.windows import shown

KINDS_FOUND = """
select kind from (select kind, count(*) as n, sum(count(*)) over () as total from ubp.event_rows() group by kind) k
 where n >= 0.005 * total order by kind <> 'purchase', n desc, kind limit 8"""
MAIN_ZONE = """
select s.time_zone from (select source, count(*) as n from ubp.event_rows() group by source) e
  join ubp.sources s on s.source_id = e.source order by e.n desc, s.source_id limit 1"""
# An empty log may be filled tomorrow; in a full one, a kind that nobody ever sent is a typing error.
UNKNOWN_KINDS = """
select k.kind,
       (select array_agg(m.kind order by m.kind) from (select kind from ubp.mirror_kinds limit 1000) m) as others
  from unnest($1) k(kind)
 where k.kind not like 'attribute:%' and exists (select from ubp.event_rows())
   and not exists (select from ubp.mirror_kinds m where m.kind = k.kind)
   and not exists (select from ubp.event_rows() e where e.kind = k.kind) limit 1"""
NEW_SET = """
insert into ubp.feature_sets (name, hash, definition, time_zone, plan) values ($1, $2, $3, $4, $5)
on conflict (name) do nothing returning feature_set_id"""
# Refreshes take the same lock: none may write rows of the old definition after the set has grown.
LOCK = "select pg_advisory_xact_lock(hashtextextended('ubp.refresh_features ' || $1, 0))"
EXISTS = "select 1 as found from ubp.feature_sets where name = $1 for update"
IN_USE = """
select d.task
  from ubp.deployments d left join ubp.deployment_arms a using (deployment_id)
 where $1 in (d.feature_set_id, a.feature_set_id) and d.retired_at > now() and d.cancelled_at is null
 order by d.task limit 1"""
GROW = """
update ubp.feature_sets set hash = $2, definition = $3, plan = $4, stale = true where feature_set_id = $1"""
STORE_PLAN = "update ubp.feature_sets set plan = $2 where feature_set_id = $1 and plan is null"
# What migration 0003 added, of sets that are older: without it they could be neither exported nor checked.
INCOMPLETE = """
select 1 as found from ubp.feature_definitions
 where feature_set_id = $1 and (spec is null or position('ubp.all_events' in sql_oracle) = 0) limit 1"""
COMPLETE = """
update ubp.feature_definitions d
   set time_window = f.time_window, edge_rule = f.edge_rule, cost = f.cost, spec = f.spec, sql_oracle = f.sql_oracle
  from jsonb_to_recordset($2) as f
    (position integer, time_window text, edge_rule text, cost text, spec jsonb, sql_oracle text)
 where d.feature_set_id = $1 and d.position = f.position and (d.spec is null or d.sql_oracle <> f.sql_oracle)"""
NEW_FEATURES = """
insert into ubp.feature_definitions
  (feature_set_id, position, name, family, kind, window_days, unit, meaning, null_rule, sql_type,
   time_window, edge_rule, cost, spec, sql_oracle)
select $1, f.position, f.name, f.family, f.kind, f.window_days, f.unit, f.meaning, f.null_rule, f.sql_type,
       f.time_window, f.edge_rule, f.cost, f.spec, f.sql_oracle
  from jsonb_to_recordset($2) as f
    (position integer, name text, family text, kind text, window_days integer, unit text, meaning text, null_rule text,
     sql_type text, time_window text, edge_rule text, cost text, spec jsonb, sql_oracle text)"""
ZONE = "select 1 as found from pg_timezone_names where name = $1"
SETS = "select feature_set_id from ubp.feature_sets order by feature_set_id"
DEPLOYED = "select distinct task from ubp.deployments order by task"

# user_features_<name> must fit the 63 letters that PostgreSQL keeps of an identifier.
SET_NAME = re.compile(r"[a-z][a-z0-9_]{0,48}")
MOST_SPECS = 2_000
MOST_CHARS = 4 << 20


@entry
def define_feature_set(
    plpy: Any, memory: dict[str, Any], name: str, kinds: list[str] | None, windows: list[int] | None, zone: str | None
) -> int:
    """Registers a set and makes its view; returns how many features it has."""
    check_version(plpy, memory)
    if kinds is None:
        return define_found_kinds(plpy, memory, name, windows, zone)
    return _define(plpy, memory, name, _definition(kinds, windows), zone)


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
        raise NotReady("there are no events, and so no kinds to take", "load events, attach a table, or name the kinds")
    return _define(plpy, memory, name, _definition(kinds, windows), zone)


def _main_zone(plpy: Any, memory: dict[str, Any]) -> str:
    """The zone of the source with most events: there as_of's own hour and weekday mean what people think."""
    row = single(plpy, memory, MAIN_ZONE, [], [])
    return row["time_zone"] if row else "UTC"


def _definition(kinds: list[str], windows: list[int] | None) -> FeatureSetDefinition:
    if None in kinds or (windows is not None and None in windows):
        raise BadInput("kinds and windows must not hold NULL")
    return FeatureSetDefinition(tuple(kinds)) if windows is None else FeatureSetDefinition(tuple(kinds), tuple(windows))


def _define(
    plpy: Any, memory: dict[str, Any], name: str, definition: FeatureSetDefinition, zone: str | None = None
) -> int:
    """Writes a new set; returns how many features it has."""
    if not isinstance(name, str) or not SET_NAME.fullmatch(name):
        raise BadInput(f"{shown(name)} is no name for a feature set", "lower-case letters, digits and _, at most 49")
    zone = zone or _main_zone(plpy, memory)
    if single(plpy, memory, ZONE, ["text"], [zone]) is None:
        raise BadInput(f"unknown time zone {zone!r}", "select name from pg_timezone_names lists them")
    types = ["text", "text", "jsonb", "text", "bytea"]
    values = [name, definition.hash, definition.to_json(), zone, definition.plan_blob]
    new = single(plpy, memory, NEW_SET, types, values)
    if new is None:
        raise BadInput(
            f"feature set {name!r} exists, and what it has never changes",
            "ubp.define_feature adds to it; a new definition takes another name",
        )
    _write_features(plpy, memory, new["feature_set_id"], name, definition, 0)
    _make_view(plpy, feature_set(plpy, memory, name))
    return definition.n_features


def _write_features(
    plpy: Any, memory: dict[str, Any], number: int, name: str, definition: FeatureSetDefinition, first: int
) -> None:
    """The catalogue's rows of the features from position `first` on."""
    run(plpy, memory, NEW_FEATURES, ["integer", "jsonb"], [number, _feature_rows(name, definition, first)])


def _feature_rows(name: str, definition: FeatureSetDefinition, first: int) -> str:
    """The catalogue's rows of the features from position `first` on, as JSON."""
    from ubp_sql.features.sql import OF_SET, oracle

    given = OF_SET.format(name=f"'{name}'")
    rows = [
        {
            "position": f.position + 1,
            "name": f.name,
            "family": f.family,
            "kind": f.kind,
            "window_days": f.window_days,
            "unit": f.unit,
            "meaning": f.meaning,
            "null_rule": f.null_rule,
            "sql_type": f.sql_type,
            "time_window": f.spec.window.text,
            "edge_rule": f.edge_rule,
            "cost": f.cost,
            "spec": f.spec.to_json(),
            "sql_oracle": oracle(definition, f, given),
        }
        for f in definition.features[first:]
    ]
    return json.dumps(rows)


@entry
def define_feature(
    plpy: Any,
    memory: dict[str, Any],
    name: str | None,
    aggregate: str | None,
    kinds: list[str | None] | None,
    of: str | None,
    window: str | None,
    settings: str | None,
    set_name: str,
) -> int:
    """Adds one feature to a set, which is made where it is missing; returns the position of its first column."""
    check_version(plpy, memory)
    spec = FeatureSpec.from_parts(name, aggregate, kinds, of, window, _json(settings or "{}", "settings"))
    definition = _grow(plpy, memory, set_name, [spec])
    return next(f.position + 1 for f in definition.features if f.spec.name == spec.name)


@entry
def define_features(plpy: Any, memory: dict[str, Any], features: str | None, set_name: str) -> int:
    """Adds the features of a JSON list, all or none; returns how many columns the set has then."""
    check_version(plpy, memory)
    found = _json(features, "features") if features is not None else None
    if not isinstance(found, list) or not 1 <= len(found) <= MOST_SPECS:
        raise BadInput(
            f"features {shown(features)} are no list of 1 to {MOST_SPECS} definitions",
            """for example '[{"name": "views_7d", "aggregate": "count", "kinds": ["view"], "window": "7d"}]'""",
        )
    return _grow(plpy, memory, set_name, [FeatureSpec.from_mapping(entry) for entry in found]).n_features


def _json(text: str, what: str) -> Any:
    """The value of a jsonb argument. Raises BadInput (UB003) on one that is too long or too deep."""
    try:
        return json.loads(text[:MOST_CHARS])
    except (ValueError, RecursionError):
        raise BadInput(f"{what} are too long or too deep", "a list of definitions is short and flat") from None


def _grow(plpy: Any, memory: dict[str, Any], set_name: str, specs: Sequence[FeatureSpec]) -> FeatureSetDefinition:
    """The set with the specs in it."""
    run(plpy, memory, LOCK, ["text"], [set_name or ""])
    declared = declared_columns(plpy, memory)
    if single(plpy, memory, EXISTS, ["text"], [set_name]) is None:
        check_kinds(plpy, memory, specs, ())
        definition = FeatureSetDefinition((), (), (specs[0],), tuple(declared)).grown(specs[1:], declared)
        _define(plpy, memory, set_name, definition)
        return definition
    found = feature_set(plpy, memory, set_name)
    definition = found.definition.grown(specs, declared)
    if definition is found.definition:
        return definition
    check_kinds(plpy, memory, specs, found.definition.kinds)
    used = single(plpy, memory, IN_USE, ["integer"], [found.feature_set_id])
    if used is not None:
        raise BadInput(
            f"feature set {set_name!r} is used by the deployed model of task {used['task']!r}: it cannot change",
            f"select ubp.copy_feature_set('{set_name}', '{set_name[:47]}_2') makes a set that can; train on that one",
        )
    values = [found.feature_set_id, definition.hash, definition.to_json(), definition.plan_blob]
    run(plpy, memory, GROW, ["integer", "text", "jsonb", "bytea"], values)
    _write_features(plpy, memory, found.feature_set_id, set_name, definition, found.definition.n_features)
    _make_view(plpy, found._replace(definition=definition))
    return definition


def check_kinds(plpy: Any, memory: dict[str, Any], specs: Sequence[FeatureSpec], known: Sequence[str]) -> None:
    """Raises BadInput (UB003) where a spec names a kind that is not `known` and that no event has."""
    kinds = sorted({kind for spec in specs for kind in kinds_of(spec)} - set(known))
    row = single(plpy, memory, UNKNOWN_KINDS, ["text[]"], [kinds]) if kinds else None
    if row is not None:
        others = row["others"] or []
        there = f"there are: {', '.join(others[:20])}" if others else "ubp.events shows the kinds there are"
        close = meant(row["kind"], others)
        raise BadInput(f"no event has the kind {row['kind']!r}", f"{close} {there}".strip())


@entry
def copy_feature_set(plpy: Any, memory: dict[str, Any], set_name: str, new_name: str) -> int:
    """A set of the same features under another name, which may grow on its own; returns how many."""
    check_version(plpy, memory)
    found = feature_set(plpy, memory, set_name)
    return _define(plpy, memory, new_name, found.definition, found.time_zone)


def _make_view(plpy: Any, found: FeatureSet) -> None:
    for statement in view_statements(found, plpy.quote_ident, plpy.quote_literal):
        plpy.execute(statement)


@entry
def rebuild_generated(plpy: Any, memory: dict[str, Any]) -> int:
    """Makes the view of every feature set and the functions of every deployed task; returns how many tasks and sets.

    And explainers of models that were registered before there were any, the body of ubp.event_rows(), which an
    installation writes as it is where nothing is attached, and the trigger functions of attached sources.
    """
    rebuild_event_rows(plpy, memory)
    rebuild_source_functions(plpy, memory)
    sets = [row["feature_set_id"] for row in run(plpy, memory, SETS, [], [])]
    for key in sets:
        try:
            found = feature_set(plpy, memory, key)
        except FeatureSetMismatch as error:  # an upgrade goes on, and whoever asks the set is told
            plpy.warning(f"{error.message}: {error.hint}")
            continue
        _make_view(plpy, found)
        run(plpy, memory, STORE_PLAN, ["integer", "bytea"], [key, found.definition.plan_blob])
        if single(plpy, memory, INCOMPLETE, ["integer"], [key]) is not None:
            run(plpy, memory, COMPLETE, ["integer", "jsonb"], [key, _feature_rows(found.name, found.definition, 0)])
    tasks = [row["task"] for row in run(plpy, memory, DEPLOYED, [], [])]
    for task in tasks:
        make_predict(plpy, task)
    from ubp_sql.api.registry import add_explainers

    add_explainers(plpy, memory)
    return len(sets) + len(tasks)


# A body in SQL-standard form is bound when made: no search_path can change what it calls, and it is inlined, so
# predict_<task> costs nothing over predict. (parameters, their types, arguments)
SCORES = (
    ("user_id bigint", "bigint", "user_id"),
    ("user_id bigint, as_of timestamptz", "bigint, timestamptz", "user_id, as_of"),
    ("user_key text", "text", "user_key"),
    ("user_key text, as_of timestamptz", "text, timestamptz", "ubp.resolve_member(user_key), as_of"),
)
REASONS = (
    ("user_id bigint, top integer default 5", "bigint, integer", "user_id, top"),
    ("user_key text, top integer default 5", "text, integer", "user_key, top"),
)
REASON = "rank integer, feature text, value double precision, typical double precision, contribution double precision, meaning text"  # noqa: E501
# What each function is called, its forms, what it returns, what it selects, what it says of itself.
GENERATED = (
    ("predict", SCORES, "double precision", "ubp.predict({})", "Score of one user for task {}; see ubp.predict"),
    (
        *("explain", REASONS, f"table ({REASON}) rows 7"),
        "e.rank, e.feature, e.value, e.typical, e.contribution, e.meaning from ubp.explain({}) e",
        "Reasons for the score of one user for task {}; see ubp.explain",
    ),
)


def make_predict(plpy: Any, task: str) -> None:
    """ubp.predict_<task> in its four forms, and ubp.explain_<task>."""
    literal = plpy.quote_literal(task)
    for prefix, forms, returns, selected, meaning in GENERATED:
        name, said = plpy.quote_ident(f"{prefix}_{task}"), plpy.quote_literal(meaning.format(task))
        for parameters, types, arguments in forms:
            body = selected.format(f"{literal}::text, {arguments}")
            for statement in (
                f"create or replace function ubp.{name}({parameters}) returns {returns} language sql stable"
                f" parallel unsafe begin atomic select {body}; end",
                f"comment on function ubp.{name}({types}) is {said}",
                f"revoke all on function ubp.{name}({types}) from public",
                f"grant execute on function ubp.{name}({types}) to ubp_analyst, ubp_auditor, ubp_loader",
            ):
                plpy.execute(statement)
