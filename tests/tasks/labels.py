"""Labels of a task and what plain SQL over all events says they should be."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from psycopg import sql

from tests.api.helpers import Connection

Labels = dict[tuple[int, datetime], float]
ROWS = "select user_id, cut, label::double precision, matured from ubp.training_probe"
INSIDE = """
select p.user_id, p.cut, {value}::double precision
  from ubp.training_probe p
  left join lateral (
    select e.event_time, e.value, e.quantity from ubp.all_events e left join ubp.sources s on s.source_id = e.source
     where e.user_id = p.user_id and e.kind = any ({kinds})
       and e.event_time >= p.cut + {begin} and e.event_time < p.cut + {begin} + {horizon} and {where}) o on true
 group by p.user_id, p.cut"""
DAYS = "extract(epoch from coalesce(min(o.event_time) - p.cut, {gap} + {horizon})) / 86400"
VALUES = {
    "any": "(count(o.event_time) > 0)::integer",
    "none": "(count(o.event_time) = 0)::integer",
    "count": "count(o.event_time)",
    "sum": "coalesce(sum(o.value) filter (where o.value <> 'NaN'), 0)",
    "days_until": DAYS,
}
LOCAL = "(e.event_time at time zone coalesce(s.time_zone, 'UTC'))"
# Of conditions on these columns, the same in SQL.
CLOCK = {
    "hour": f"extract(hour from {LOCAL})",
    "weekday": f"extract(isodow from {LOCAL})",
    "month": f"extract(month from {LOCAL})",
    "holiday": f"(exists (select from ubp.calendar c where c.day = {LOCAL}::date))::integer",
}
OTHERS = {"item": "e.item_id", "order_text": "e.attributes ->> 'order_id'", "value": "nullif(e.value, 'NaN')"}


def defined(
    conn: Connection, rule: dict[str, Any], horizon: timedelta, population: str, feature_set: str = "default"
) -> None:
    conn.execute(
        "select ubp.define_task('probe', label => %s, population_kind => %s, horizon => %s, feature_set => %s)",
        [json.dumps(rule), population, horizon, feature_set],
    )


def given(conn: Connection, cuts: Sequence[datetime] | None) -> Labels:
    """Labels of ubp.training_set, whose table stays for `wanted`."""
    conn.execute("select ubp.training_set('probe', %s::timestamptz[])", [cuts])
    rows = conn.execute(ROWS, binary=True).fetchall()
    return {(user, cut): label for user, cut, label, _ in rows}


def wanted(conn: Connection, rule: dict[str, Any], horizon: timedelta, gap: timedelta, *, at_events: bool) -> Labels:
    """The same by SQL."""
    form = next(name for name in VALUES if name in rule)
    kinds = rule["kinds"] if form == "sum" else rule[form]
    begin = gap + timedelta(microseconds=1 if at_events else 0)
    query = sql.SQL(INSIDE).format(
        value=sql.SQL(VALUES[form]).format(gap=sql.Literal(gap), horizon=sql.Literal(horizon)),
        kinds=sql.Literal([kinds] if isinstance(kinds, str) else kinds),
        begin=sql.Literal(begin),
        horizon=sql.Literal(horizon),
        where=sql.SQL(" and ").join([sql.SQL("true"), *(condition(*c) for c in rule.get("where", {}).items())]),
    )
    return {(user, cut): value for user, cut, value in conn.execute(query, binary=True).fetchall()}


def condition(column: str, value: Any) -> sql.Composable:
    name = sql.SQL({**CLOCK, **OTHERS}[column])
    if isinstance(value, dict):
        parts = [sql.SQL("{} {} {}").format(name, sql.SQL(sign), sql.Literal(value[key]))
                 for key, sign in (("min", ">="), ("below", "<")) if key in value]  # fmt: skip
        return sql.SQL(" and ").join(parts)
    return sql.SQL("{} = {}").format(name, sql.Literal(value))
