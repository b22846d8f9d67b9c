"""The file of `ubp-sql model export --sql`: one model and its features for a server without PL/Python."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from importlib.resources import files
from typing import Any, NamedTuple

from ubp_sql import __version__
from ubp_sql.errors import BadInput, FeatureSetMismatch, UnsupportedModel
from ubp_sql.export.features import FeatureSql, refuse_others
from ubp_sql.export.maps import value_of
from ubp_sql.export.quoting import body, identifier, literal, remark
from ubp_sql.export.scorers import scorer
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.models.calibration import Map
from ubp_sql.models.loaded import open_model

FORMS = (
    ("user_id bigint", "user_id"),
    ("user_id bigint, as_of timestamptz", "user_id, as_of"),
    ("user_key text", "ubp.resolve_user(user_key)"),
    ("user_key text, as_of timestamptz", "ubp.resolve_user(user_key), as_of"),
)
OF_FEATURES = (
    "set enable_nestloop = off set enable_mergejoin = off set max_parallel_workers_per_gather = 0"
    " set jit = off set work_mem = '64MB'"
)
"""Parts are joined whole; their sizes are guesses to the planner. A parallel scan would not keep the order of sums."""
ALWAYS = ("tables.sql", "helpers.sql", "functions.sql", "comments.sql")


class Source(NamedTuple):
    """A time zone of events: a row of ubp.sources."""

    source_id: int
    name: str
    time_zone: str


class Holiday(NamedTuple):
    """A row of ubp.calendar."""

    day: date
    region: str
    name: str


class Exported(NamedTuple):
    """What a file is made of.

    compiled    the model as it is registered
    population  position, from 0, of the feature that is below 1 where there is too little history
    zone        of the feature set
    sources, holidays  rows that values of features depend on
    """

    task: str
    version: int
    meaning: str
    compiled: bytes
    population: int
    feature_set: str
    definition: FeatureSetDefinition
    zone: str
    map: Map | None
    sources: Sequence[Source]
    holidays: Sequence[Holiday]


def exported_of(task: str, row: Mapping[str, Any], sources: Sequence[Source], holidays: Sequence[Holiday]) -> Exported:
    """What the tables of the first tier say of a version.

    row  version, meaning, compiled, population_kind, feature_set, definition (JSON), time_zone, same_set, and of its
         calibration map method, x, y, NULL without one

    Raises FeatureSetMismatch (UB002) where the set is another by now, BadInput (UB003) where it does not say whom to
    score.
    """
    if not row["same_set"]:
        raise FeatureSetMismatch(
            f"version {row['version']} was trained on another definition of its feature set", "train again"
        )
    definition = FeatureSetDefinition.from_json(row["definition"])
    population = definition.lifetime_count(row["population_kind"])
    if population is None:
        raise BadInput(
            f"feature set {row['feature_set']!r} has no number of all {row['population_kind']} events",
            "define the task on a set that has one: whom to score would not be known",
        )
    return Exported(
        task,
        row["version"],
        row["meaning"],
        row["compiled"],
        population,
        row["feature_set"],
        definition,
        row["time_zone"],
        None if row["method"] is None else Map(row["method"], row["x"], row["y"]),
        sources,
        holidays if definition.uses_holidays else (),
    )


def file_of(model: Exported) -> str:
    """The text of the file.

    Raises UnsupportedModel (UB007) where the model, or a feature of its set, has no form in SQL.
    """
    refuse_others(model.definition)
    loaded = open_model(model.compiled)
    if loaded.features != model.definition.n_features:
        raise UnsupportedModel(
            f"version {model.version} takes {loaded.features} features, its set has {model.definition.n_features}",
            "train again, then export",
        )
    features = FeatureSql(model.definition, model.zone)
    digest = _digest(model.definition.hash, model.zone)
    names = {
        "of_all": f"rows_{digest}",
        "of_one": f"row_{digest}",
        "score": f"score_{_digest(model.compiled.hex())}",
        "value": f"value_{_digest(repr(model.map and (model.map.method, model.map.x, model.map.y)))}",
    }
    parts = [
        *_head(model),
        *(files("ubp_sql.export").joinpath(name).read_text(encoding="utf-8") for name in ALWAYS),
        _function(
            f"ubp.{names['of_all']}(now_at timestamptz) returns table (user_id bigint, features real[])",
            f"language plpgsql stable rows 10000 {OF_FEATURES}",
            features.body(of_all=True),
            f"Everybody's features of set {model.feature_set}; ubp.refresh_features calls it.",
        ),
        _function(
            f"ubp.{names['of_one']}(whom bigint, now_at timestamptz) returns real[]",
            # One plan for every user: made anew for each, it would take longer than the work.
            f"language plpgsql stable set plan_cache_mode = force_generic_plan {OF_FEATURES}",
            features.body(of_all=False),
            f"One user's features of set {model.feature_set}; ubp.feature_vector calls it.",
        ),
        _function(
            f"ubp.{names['score']}(f real[]) returns double precision",
            "language plpgsql immutable strict parallel safe",
            scorer(loaded),
            f"Model of task {model.task}, version {model.version}.",
        ),
        _function(
            f"ubp.{names['value']}(s double precision) returns double precision",
            "language plpgsql immutable strict parallel safe",
            value_of(model.map),
            "What a score says after the calibration map." if model.map else "What a score says: no map changes it.",
        ),
        *_rows(model, names),
        *_predict(model),
        "commit;",
    ]
    return "\n".join(parts) + "\n"


def _digest(text: str, *more: str) -> str:
    return hashlib.sha256("\n".join((text, *more)).encode()).hexdigest()[:16]


def _head(model: Exported) -> Iterator[str]:
    yield remark(f"Task {model.task}, version {model.version}: its model and its features for PostgreSQL 15 or later")
    yield remark("without PL/Python. For a role that may create a schema: psql -X -v ON_ERROR_STOP=1 -f FILE DATABASE")
    yield remark("It may be run again; files of several tasks live side by side in schema ubp.")
    yield remark(
        "One transaction. Locks: rows of ubp.models and ubp.feature_sets; where a table ubp.events is there without"
    )
    yield remark("an index on (user_id, event_time), writers of it wait until that is made.")
    yield remark("Uninstall, with all events in it (move a table first: alter table ubp.events set schema public):")
    yield remark("drop schema ubp cascade")
    yield "begin;"
    yield "set local client_encoding = 'UTF8';"
    yield "set local standard_conforming_strings = on;"
    yield "set local client_min_messages = warning;"
    yield "set local search_path = pg_catalog, pg_temp;"


def _function(signature: str, options: str, text: str, comment: str) -> str:
    settings = f"{options} set search_path = pg_catalog, pg_temp"
    made = f"create or replace function {signature}\n{settings}\nas {body(text.strip())};"
    return f"{made}\ncomment on function {signature.partition(' returns ')[0]} is {literal(comment)};"


def _rows(model: Exported, names: dict[str, str]) -> Iterator[str]:
    for source in model.sources:
        yield (
            f"insert into ubp.sources (source_id, name, time_zone) values ({source.source_id}, {literal(source.name)}, "
            f"{literal(source.time_zone)}) on conflict do nothing;"
        )
    for holiday in model.holidays:
        yield (
            f"insert into ubp.calendar (day, region, name) values ('{holiday.day.isoformat()}', "
            f"{literal(holiday.region)}, {literal(holiday.name)}) on conflict do nothing;"
        )
    yield f"""insert into ubp.feature_sets (name, hash, time_zone, of_all, of_one)
values ({literal(model.feature_set)}, '{model.definition.hash}', {literal(model.zone)},
        '{names["of_all"]}', '{names["of_one"]}')
on conflict (name) do update
  set as_of = case when (feature_sets.hash, feature_sets.time_zone) = (excluded.hash, excluded.time_zone)
                   then feature_sets.as_of end,
      hash = excluded.hash, time_zone = excluded.time_zone, of_all = excluded.of_all, of_one = excluded.of_one;
delete from ubp.feature_rows r using ubp.feature_sets s
 where r.feature_set = s.name and s.name = {literal(model.feature_set)} and s.as_of is null;
delete from ubp.feature_catalogue where feature_set = {literal(model.feature_set)};"""
    for f in model.definition.features:
        texts = (f.name, f.family, f.kind, f.unit, f.meaning, f.null_rule, f.sql_type, f.spec.window.text, f.edge_rule)
        yield (
            f"insert into ubp.feature_catalogue values ({literal(model.feature_set)}, {f.position + 1}, "
            f"{', '.join(map(literal, texts))});"
        )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    values = (
        f"{literal(model.task)}, {model.version}, true, {literal(model.feature_set)}, '{model.definition.hash}', "
        f"{model.definition.n_features}, {model.population + 1}, '{names['score']}', '{names['value']}', "
        f"{literal(model.meaning)}, {literal(__version__)}, '{now}'"
    )
    yield f"""update ubp.models set deployed = false where task = {literal(model.task)};
insert into ubp.models values ({values})
on conflict (task, version) do update
  set deployed = true, feature_set = excluded.feature_set, feature_set_hash = excluded.feature_set_hash,
      features = excluded.features, population = excluded.population, score_function = excluded.score_function,
      value_function = excluded.value_function, meaning = excluded.meaning, code_version = excluded.code_version,
      exported_at = excluded.exported_at;"""


def _predict(model: Exported) -> Iterator[str]:
    """ubp.predict_<task>, in its four forms; bound when made, they are put in place of their call."""
    name = identifier(f"predict_{model.task}")
    for parameters, arguments in FORMS:
        yield (
            f"create or replace function ubp.{name}({parameters}) returns double precision language sql stable\n"
            f"begin atomic select ubp.predict({literal(model.task)}::text, {arguments}); end;\n"
            f"comment on function ubp.{name}({parameters}) is {literal(model.meaning)};"
        )
