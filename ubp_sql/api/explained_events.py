"""The events behind a feature of one user, with what each gives to it."""

from typing import Any

from ubp_sql.api.event_rows import origins
from ubp_sql.api.members import whose
from ubp_sql.api.moments import FeatureSet, feature_set
from ubp_sql.api.served_task import LOOKUP
from ubp_sql.api.serving import NO_ROW, challenger_of, known_deployment, no_deployment
from ubp_sql.api.session import Row, entry, run, single
from ubp_sql.api.what_if_changes import unknown_feature
from ubp_sql.errors import BadInput, NotReady
from ubp_sql.features.aggregates import RULES
from ubp_sql.features.definition import FeatureDefinition
from ubp_sql.features.sql_events import TYPES, events_of
from ubp_sql.features.windows import shown

MOST = 100_000
ANY = """
select exists (select from ubp.event_rows() e
                where e.user_id = $1 and e.event_time < $2 and e.ingested_at <= $2 and e.kind = any ($3)) as found"""


@entry
def explain_events(
    plpy: Any, memory: dict[str, Any], task: str, user_id: int | None, feature: str | None, limit: int | None
) -> list[Row]:
    """The events that a feature of the task is computed from at the set's as_of, newest first."""
    if limit is None or not 1 <= limit <= MOST:
        raise BadInput(f"limit is {shown(limit)}", f"how many events to show: 1 to {MOST}")
    row = single(plpy, memory, LOOKUP, ["text", "bigint"], [task, user_id])
    if row is None:
        raise no_deployment(plpy, memory, task)
    if user_id is None:
        plpy.notice("no events: the user is unknown")
        return []
    linked_to = whose(plpy, memory, user_id)
    user_id = user_id if linked_to is None else linked_to
    deployed = challenger_of(known_deployment(plpy, memory, row["deployment_id"]), user_id)
    found = feature_set(plpy, memory, deployed.feature_set_id)
    named = _named(found, feature)
    if found.as_of is None:
        raise NotReady("the features speak of no moment yet", "run ubp.refresh_features()")
    for origin in origins(plpy, memory):
        if origin.source is not None:
            origin.source.refuse_another()
    # A query of its own for each feature: its plan is not worth keeping.
    query = events_of(found.definition, named)
    rows = run(plpy, {}, query, list(TYPES), [user_id, found.as_of, found.time_zone, limit])
    _say(plpy, memory, found, named, user_id, rows)
    return [{name: value for name, value in row.items() if name != "total"} for row in rows]


def _named(found: FeatureSet, feature: str | None) -> FeatureDefinition:
    if feature is None:
        raise BadInput("feature is NULL", "ubp.feature_catalogue lists the features")
    for one in found.definition.features:
        if one.name == feature:
            return one
    raise unknown_feature(feature, [one.name for one in found.definition.features])


def _say(
    plpy: Any, memory: dict[str, Any], found: FeatureSet, feature: FeatureDefinition, user_id: int, rows: Any
) -> None:
    """What the rows leave unsaid."""
    if RULES[feature.family].standing:
        whom = f"the feature {feature.spec.of}" if feature.spec.of else "the user's newest item"
        plpy.notice(f"{feature.name} is about all users: these are the events behind {whom}, of this user alone")
    if rows:
        if rows[0]["total"] > len(rows):
            plpy.notice(f"{len(rows)} of {rows[0]['total']} events are shown, the newest")
        return
    arguments = [user_id, found.as_of, list(found.definition.kinds)]
    if run(plpy, memory, ANY, ["bigint", "timestamptz", "text[]"], arguments)[0]["found"]:
        plpy.notice(f"no event of user {user_id} counts as of {found.as_of}, {feature.edge_rule}: {feature.null_rule}")
    else:
        plpy.notice(f"no events: {NO_ROW}")
