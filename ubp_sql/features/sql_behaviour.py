"""Funnels, sessions, dwell and words as plain SQL: the part of a feature's query (sql.py) after `known` and `users`.

Written as an analyst would: a lateral join for the first later event, lag() for pauses. What the kernel does in one
scan takes the square of a user's events here.
"""

from collections.abc import Callable, Sequence
from typing import Any

from ubp_sql.features.columns import quoted
from ubp_sql.features.spec import FeatureSpec
from ubp_sql.features.sql import AS_OF, OLDEST_FIRST, events, interval, listed, name_of, per_user, span

Values = dict[str, Any]

ORDERED = f"""ordered as (
  select *, row_number() over (partition by user_id order by {OLDEST_FIRST}) as place from known
)"""  # noqa: S608 - constants
SECONDS = "extract(epoch from {})::double precision"


def _answer(steps: str, found: str, nothing: str = "null") -> str:
    """The end of every query: one value a user, `nothing` for one who is not in `found`."""
    return f"""{steps},
found as ({found})
select u.user_id, coalesce(f.value, {nothing})::double precision as value
  from users u left join found f using (user_id) order by u.user_id"""  # noqa: S608 - made here


def _first_later(event: str, kinds: Sequence[str]) -> str:
    """The user's first event of `kinds` after `event`."""
    return f"""(
      select o.place, o.t from ordered o
       where o.user_id = {event}.user_id and o.place > {event}.place and o.kind in ({listed(kinds)})
       order by o.place limit 1) next"""  # noqa: S608 - quoted


def _funnel(spec: FeatureSpec, values: Values, part: int, bucket: int) -> str:
    steps = values["steps"]
    inside = " and ".join([f"kind = {quoted(steps[0])}", *span(spec.window, bucket)])
    parts = [ORDERED, f"step_1 as (select user_id, t as begun, place from ordered where {inside})"]  # noqa: S608 - quoted
    for n, kind in enumerate(steps[1:], 2):
        parts.append(f"""step_{n} as (
  select s.user_id, s.begun, next.place
    from step_{n - 1} s cross join lateral {_first_later("s", [kind])}
   where next.t - s.begun <= {interval(values["bound"])}
)""")  # noqa: S608 - quoted
    reached = " union all ".join(f"select user_id, {n} as step from step_{n}" for n in range(1, len(steps) + 1))  # noqa: S608
    parts.append(f"reached as ({reached})")
    there = f"count(*) filter (where step = {values.get('step', len(steps))})"
    value, nothing = {
        "funnel_depth": ("max(step)", "0"),
        "funnel_reached": (there, "0"),
        "funnel_rate": (f"{there}::double precision / count(*) filter (where step = 1)", "null"),
    }[spec.aggregate]
    return _answer(",\n".join(parts), per_user("reached", value), nothing)


def _split(mine: str, values: Values) -> str:
    """`sessions`: each with its user, events, first and last time."""
    order = f"over (partition by user_id order by {OLDEST_FIRST})"
    return f"""mine as ({mine}),
cut as (
  select *, coalesce(t - lag(t) {order} > {interval(values["timeout"])}, true) as begins from mine
),
numbered as (select *, count(*) filter (where begins) {order} as session from cut),
sessions as (
  select user_id, session, count(*) as events, min(t) as first, max(t) as last from numbered group by user_id, session
)"""  # noqa: S608 - made here


def _sessions(spec: FeatureSpec, values: Values, part: int, bucket: int) -> str:
    value = {
        "sessions": "count(*)",
        "session_events": "avg(events)",
        "session_length": f"avg({SECONDS.format('last - first')})",
        "bounce_share": "avg((events = 1)::integer)",
    }[spec.aggregate]
    steps = _split(events(spec.kinds, spec.window, spec.where, bucket), values)
    return _answer(steps, per_user("sessions", value), "0" if spec.aggregate == "sessions" else "null")


def _last_session(spec: FeatureSpec, values: Values, part: int, bucket: int) -> str:
    value = {
        "last_session_age": f"{SECONDS.format(f'{AS_OF} - last')} / 86400",
        "last_session_length": SECONDS.format("last - first"),
        "last_session_events": "events",
    }[spec.aggregate]
    steps = _split(events(spec.kinds, spec.window, spec.where), values)
    newest = "(select max(session) from sessions s where s.user_id = sessions.user_id)"
    return _answer(steps, f"select user_id, {value} as value from sessions where session = {newest}")  # noqa: S608


def _dwell(spec: FeatureSpec, values: Values, part: int, bucket: int) -> str:
    kinds = [f"kind in ({listed(spec.kinds)})", *span(spec.window, bucket)]
    steps = f"""{ORDERED},
stays as (
  select e.user_id, {SECONDS.format("next.t - e.t")} as seconds
    from (select * from ordered where {" and ".join(kinds)}) e
   cross join lateral {_first_later("e", values.get("until") or spec.kinds)}
   where next.t - e.t <= {interval(values["timeout"])}
)"""  # noqa: S608 - quoted
    value, nothing = {
        "dwell_count": ("count(*)", "0"),
        "dwell_mean": ("avg(seconds)", "null"),
        "dwell_sum": ("sum(seconds)", "0"),
    }[spec.aggregate]
    return _answer(steps, per_user("stays", value), nothing)


def _words(spec: FeatureSpec, values: Values, part: int, bucket: int) -> str:
    steps = f"mine as ({events(spec.kinds, spec.window, spec.where, bucket)})"
    inside = f"""exists (
  select from regexp_split_to_table(lower({name_of(spec.of or "")}), '[^[:alnum:]]+') word
   where word <> '' and mod(hashtextextended(word, 0) & 63, {values["buckets"]}) = {part})"""
    return _answer(steps, per_user("mine", "count(*)", f"where {inside} "), "0")


QUERIES: dict[str, Callable[[FeatureSpec, Values, int, int], str]] = {
    **dict.fromkeys(("funnel_depth", "funnel_reached", "funnel_rate"), _funnel),
    **dict.fromkeys(("sessions", "session_events", "session_length", "bounce_share"), _sessions),
    **dict.fromkeys(("last_session_age", "last_session_length", "last_session_events"), _last_session),
    **dict.fromkeys(("dwell_count", "dwell_mean", "dwell_sum"), _dwell),
    "words": _words,
}
"""Aggregate to (spec, settings, part of the spec's columns, bucket of its window) -> text."""
