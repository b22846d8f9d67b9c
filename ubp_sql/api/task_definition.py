"""Tasks: what is predicted, for whom, how far ahead; a row of ubp.task_definitions each."""

import json
import re
from typing import Any

from ubp_sql.api.catalogue import check_kinds
from ubp_sql.api.heap import declared_columns
from ubp_sql.api.moments import FeatureSet, feature_set
from ubp_sql.api.session import check_version, entry, run, single
from ubp_sql.errors import BadInput
from ubp_sql.features.columns import types_of
from ubp_sql.features.label_rule import LabelRule

SAME_TASK = """
select label = $2 and population_kind = $3 and horizon = $4 and feature_set_id = $5 as same
  from ubp.task_definitions where task = $1"""
NEW_TASK = """
insert into ubp.task_definitions
  (task, meaning, label_kind, population_kind, horizon, feature_set_id, label, output)
values ($1, $2, $3, $4, $5, $6, $7, $8)"""
# The trainer keeps label windows of past cuts clear of the test cut: months and years differ in length.
HORIZON = """
select $1 > interval '0' and $1 <= interval '36500 days' and date_trunc('month', $1) = interval '0' as good"""
TASK_WORD = re.compile(r"[^a-z0-9]+")
TASK_NAME = re.compile(r"[a-z][a-z0-9_]{0,50}")
# Names of ours that predict_<task> or explain_<task> would collide with.
RESERVED_TASKS = {"detail", "many", "if", "if_detail", "interval", "set", "events", "surrogate"}


def refuse_horizon(plpy: Any, memory: dict[str, Any], horizon: str | None) -> None:
    """Raises BadInput (UB003) unless it is a positive length of at most 36,500 days."""
    row = single(plpy, memory, HORIZON, ["interval"], [horizon])
    if row is None or not row["good"]:
        raise BadInput(f"horizon {horizon} is not a positive number of days or hours", "for example interval '30 days'")


@entry
def define_task(
    plpy: Any,
    memory: dict[str, Any],
    task: str,
    label_kind: str | None,
    population_kind: str | None,
    horizon: str,
    set_name: str,
    meaning: str | None,
    label: str | None,
) -> None:
    """One row of ubp.task_definitions; the same definition again changes nothing."""
    check_version(plpy, memory)
    if not task or not TASK_NAME.fullmatch(task) or task in RESERVED_TASKS:
        raise BadInput(
            f"{task!r} is no name for a task",
            "lower-case letters, digits and _, at most 51; it names predict_<task>, so none of "
            + ", ".join(sorted(RESERVED_TASKS)),
        )
    found = feature_set(plpy, memory, set_name)
    rule = _rule(plpy, memory, found, label_kind, label)
    population_kind = population_kind or next(iter(rule.kinds), None)
    _refuse_population(plpy, found, set_name, population_kind)
    refuse_horizon(plpy, memory, horizon)
    if rule.table is not None:
        from ubp_sql.api.label_table import looked_at

        table = looked_at(plpy, memory, rule.table, found.definition.kinds, found.time_zone)
        rule = rule._replace(table=table)
    key = [task, rule.text, population_kind, horizon, found.feature_set_id]
    same = single(plpy, memory, SAME_TASK, ["text", "jsonb", "text", "interval", "integer"], key)
    if same is not None:
        if not same["same"]:
            raise BadInput(f"task {task!r} exists with another definition", "give the new task another name")
        return
    kind = rule.kinds[0] if len(rule.kinds) == 1 else None
    types = ["text", "text", "text", "text", "interval", "integer", "jsonb", "text"]
    values = [task, meaning or rule.words, kind, population_kind, horizon, found.feature_set_id, rule.text, rule.output]
    run(plpy, memory, NEW_TASK, types, values)


def _rule(plpy: Any, memory: dict[str, Any], found: FeatureSet, kind: str | None, label: str | None) -> LabelRule:
    """The rule of the two arguments, of which one is given."""
    if (kind is None) == (label is None):
        given = "neither label_kind nor label was given" if kind is None else "label_kind and label were both given"
        raise BadInput(given, """'purchase' as label_kind, or label => '{"none": ["purchase"]}'""")
    try:
        rule = LabelRule.of_kind(kind) if kind is not None else LabelRule.from_json(json.loads(label or ""))
    except (ValueError, RecursionError):
        raise BadInput("label is too long or too deep", "a rule is short and flat") from None
    rule = rule.checked(types_of(tuple(declared_columns(plpy, memory))))
    if rule.spec is not None:
        check_kinds(plpy, memory, [rule.spec], found.definition.kinds)
    return rule


def _refuse_population(plpy: Any, found: FeatureSet, set_name: str, kind: str | None) -> None:
    if kind is None:
        raise BadInput(
            "population_kind is NULL, and a table says nothing of whom to ask",
            f"one of {', '.join(found.definition.kinds)}: users with such an event before",
        )
    if kind not in found.definition.kinds:
        raise BadInput(
            f"feature set {set_name!r} does not cover the kind {kind!r}",
            f"its kinds: {', '.join(found.definition.kinds)}; ubp.define_feature_set makes another",
        )
    if found.definition.lifetime_count(kind) is None:
        raise BadInput(
            f"feature set {set_name!r} has no number of all {kind} events: whom to ask would not be known",
            f"select ubp.define_feature('count_{TASK_WORD.sub('_', kind.lower())[:40]}_all', 'count', "
            f"array[{plpy.quote_literal(kind)}], feature_set => '{set_name}')",
        )


def stored_rule(label: str) -> LabelRule:
    """The rule of a row of ubp.task_definitions."""
    return LabelRule.from_json(json.loads(label))
