"""The events that one user's feature is computed from, as plain SQL: which ones, in what role, what each gives.

Beside the columns of the event a row has
  role   what it is to the feature, where events are several things: numerator, denominator or both of a quotient,
         step 1, step 2, ... of a funnel, stay or until of dwell, begins for the first event of a session
  key    what it is counted by (item, order, hour, a text, the session's number), as text
  gives  the number that the aggregate takes of it: GIVES says which, and how the value is made of them
The feature of these events alone is the feature of all events. An event that another one voids is left out.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ubp_sql.features.aggregates import RULES
from ubp_sql.features.columns import CLOCK_SIZE, expression_of, quoted
from ubp_sql.features.compile import columns_of, kinds_of, values_of
from ubp_sql.features.spec import FeatureSpec
from ubp_sql.features.sql import AS_OF, band, condition, events, interval, listed, name_of, span
from ubp_sql.features.sql_behaviour import SECONDS
from ubp_sql.features.windows import ALL, Window

if TYPE_CHECKING:
    from ubp_sql.features.definition import FeatureDefinition, FeatureSetDefinition

TYPES = ("bigint", "timestamptz", "text", "bigint")
"""Of the parameters: the user, the moment, the set's time zone, how many rows."""
COLUMNS = "event_id, t as event_time, kind, item_id, value, quantity, duration_s, attributes, ingested_at, source"
DAYS = "extract(epoch from {})::double precision / 86400"
AGE = DAYS.format(f"{AS_OF} - t")


class Part(NamedTuple):
    """What is taken of `mine`, the events in the window that meet the condition.

    where   a condition on them
    newest  how many of them at most; 0: all
    oldest  the same, counted from the other end
    steps   queries to come before, each ended by a comma; `table` is the one that they make of `mine`
    """

    gives: str
    where: str = "true"
    key: str = "null"
    role: str = "null"
    newest: int = 0
    oldest: int = 0
    steps: str = ""
    table: str = "mine"


def events_of(definition: "FeatureSetDefinition", feature: "FeatureDefinition") -> str:
    """The query of one feature, newest event first: COLUMNS, role, key, gives, and of how many rows these are."""
    spec = feature.spec
    if RULES[spec.aggregate].of_feature:
        return events_of(definition, next(f for f in definition.features if f.name == spec.of))
    columns = "".join(
        f",\n         {expression_of(name, definition.declared)} as {name_of(name)}" for name in columns_of(spec)
    )
    return f"""with given as (select $2::timestamptz as as_of, $3::text as zone),
known as (
  select e.user_id, e.event_time as t, e.ingested_at, e.event_id, e.kind, e.item_id, e.value, e.quantity, e.duration_s,
         e.attributes, e.source, row_number() over (order by e.event_time, e.ingested_at, e.event_id) as place{columns}
    from given g
    join ubp.event_rows() e on e.user_id = $1 and e.event_time < g.as_of and e.ingested_at <= g.as_of
    left join ubp.sources s on s.source_id = e.source
   where e.kind in ({listed(kinds_of(spec))})
),
{_chosen(spec, feature.part, feature.bucket, spec.of in definition.columns.numbers)}
select {COLUMNS}, role, key, gives, count(*) over () as total
  from chosen order by place desc limit $4"""  # noqa: S608 - quoted


def _chosen(spec: FeatureSpec, part: int, bucket: int, is_sum: bool) -> str:
    """`chosen` and what it is made of."""
    if spec.aggregate.startswith("funnel"):
        return _funnel(spec, bucket)
    if spec.aggregate.startswith("dwell"):
        return _dwell(spec, bucket)
    if spec.aggregate in ("trend", "ratio", "share"):
        return _quotient(spec, bucket, is_sum)
    made = _PARTS[spec.aggregate](spec, part)
    window = ALL if spec.aggregate == "item_popularity" else spec.window
    most = f" order by place desc limit {made.newest}" if made.newest else ""
    most = f" order by place limit {made.oldest}" if made.oldest else most
    return f"""mine as ({events(spec.kinds, window, spec.where, bucket)}),
{made.steps}chosen as (
  select *, ({made.role})::text as role, ({made.key})::text as key, ({made.gives})::double precision as gives
    from {made.table} where {made.where}{most}
)"""  # noqa: S608 - quoted


def _x(spec: FeatureSpec) -> str:
    return name_of(spec.of or "")


def _one(gives: str, **rest: str | int) -> Callable[[FeatureSpec, int], Part]:
    return lambda spec, part: Part(gives, **rest)  # type: ignore[arg-type]


def _number(spec: FeatureSpec, part: int) -> Part:
    return Part(_x(spec), f"{_x(spec)} is not null")


def _first(spec: FeatureSpec, part: int) -> Part:
    return _number(spec, part)._replace(oldest=1)


def _last(spec: FeatureSpec, part: int) -> Part:
    """The one as far from the newest as the column says, and those with a value after it, which give nothing."""
    x = _x(spec)
    back = "row_number() over (order by place desc) as back"
    steps = f"numbered as (select *, {back} from mine where {x} is not null),\n"  # noqa: S608 - names of ours
    return Part(f"case when back = {part + 1} then {x} end", f"back <= {part + 1}", steps=steps, table="numbered")


def _distinct(spec: FeatureSpec, part: int) -> Part:
    x = _x(spec)
    return Part(_newest_of(x), f"{x} is not null", x)


def _newest_of(*keys: str) -> str:
    """1 for the newest event of a key, 0 for the others: so that their sum is the number of keys."""
    return f"(row_number() over (partition by {', '.join(keys)} order by place desc) = 1)::integer"


def _gaps(spec: FeatureSpec, part: int) -> Part:
    """The first event of each order, with the days since the start before it."""
    gives = DAYS.format("t - lag(t) over (order by place)")
    if spec.of is None:
        return Part(gives)
    x = _x(spec)
    steps = f"starts as (select distinct on ({x}) * from mine where {x} is not null order by {x}, place),\n"  # noqa: S608
    return Part(gives, key=x, steps=steps, table="starts")


def _last_gap(spec: FeatureSpec, part: int) -> Part:
    return _gaps(spec, part)._replace(newest=2)


def _sum_per(spec: FeatureSpec, part: int) -> Part:
    per = name_of(spec.settings["per"])
    return Part(_x(spec), f"{_x(spec)} is not null or {per} is not null", per)


def _decay(spec: FeatureSpec, part: int) -> Part:
    seconds = values_of(spec)["half_life"] / 1_000_000
    age = f"extract(epoch from {AS_OF} - t)::double precision / {seconds!r}"
    weight = f"power(2::double precision, -least({age}, 1000))"
    if spec.aggregate == "decayed_count":
        return Part(weight)
    return Part(f"{_x(spec)} * {weight}", f"{_x(spec)} is not null")


def _keyed(spec: FeatureSpec, part: int) -> Part:
    return Part("1", f"{_x(spec)} is not null", _x(spec))


def _ranked(order: str) -> Callable[[FeatureSpec, int], Part]:
    """1 for the events of the key of one rank."""

    def made(spec: FeatureSpec, part: int) -> Part:
        x = _x(spec)
        rank = part + 1 if spec.aggregate == "top_keys" else 1
        steps = f"""ranked as (
  select {x} as one, row_number() over (order by count(*) desc, {order}) as rank
    from mine where {x} is not null group by {x}
),
"""  # noqa: S608 - names of ours
        gives = f"({x} = (select one from ranked where rank = {rank}))::integer"  # noqa: S608 - a number
        return Part(gives, f"{x} is not null", x, steps=steps)

    return made


def _bands(spec: FeatureSpec, part: int) -> Part:
    edges = [float("-inf"), *values_of(spec)["edges"], float("inf")]
    return Part(f"({band(_x(spec), edges[part], edges[part + 1])})::integer", f"{_x(spec)} is not null")


def _wave(function: str) -> Callable[[FeatureSpec, int], Part]:
    return lambda spec, part: Part(
        f"{function}(2 * pi() * {_x(spec)} / {CLOCK_SIZE[spec.of or '']})", key=_shown(spec.of)
    )


def _clock_share(spec: FeatureSpec, part: int) -> Part:
    first = 0 if spec.of == "hour" else 1
    places = ", ".join(str(place - first) for place in values_of(spec)["in"])
    return Part(f"({_x(spec)} in ({places}))::integer", key=_shown(spec.of))


def _clock(spec: FeatureSpec, part: int) -> Part:
    made = _keyed(spec, part) if spec.aggregate == "clock_entropy" else _ranked(_x(spec))(spec, part)
    return made._replace(key=_shown(spec.of))


def _shown(of: str | None) -> str:
    """Hours from 0, weekdays and months from 1, as people count them."""
    return name_of(of or "") if of == "hour" else f"{name_of(of or '')} + 1"


def _sessions(spec: FeatureSpec, part: int) -> Part:
    """Sessions are numbered from the oldest of the window."""
    pause = "t - lag(t) over (order by place)"
    steps = f"""cut as (
  select *, {pause} as pause, coalesce({pause} > {interval(values_of(spec)["timeout"])}, true) as begins from mine
),
numbered as (select *, count(*) filter (where begins) over (order by place) as session from cut),
sized as (select *, count(*) over (partition by session) as size, max(session) over () as newest from numbered),
"""  # noqa: S608 - made here
    within = f"case when begins then 0 else {SECONDS.format('pause')} end"
    gives = {
        "sessions": "begins::integer",
        "session_length": within,
        "bounce_share": "(size = 1)::integer",
        "last_session_length": within,
    }.get(spec.aggregate, "1")
    where = "session = newest" if spec.aggregate.startswith("last") else "true"
    return Part(gives, where, "session", "case when begins then 'begins' end", steps=steps, table="sized")


def _words(spec: FeatureSpec, part: int) -> Part:
    inside = f"""exists (
  select from regexp_split_to_table(lower({_x(spec)}), '[^[:alnum:]]+') word
   where word <> '' and mod(hashtextextended(word, 0) & 63, {values_of(spec)["buckets"]}) = {part})"""
    return Part("1", inside, _x(spec))


def _weekday(spec: FeatureSpec, part: int) -> Part:
    own = "(select extract(isodow from as_of at time zone zone) - 1 from given)"
    return Part(f"(of_weekday = {own})::integer", key="of_weekday + 1")


def _last_key(spec: FeatureSpec, part: int) -> Part:
    return Part("null", key=_x(spec), newest=1)


_PARTS: dict[str, Callable[[FeatureSpec, int], Part]] = {
    "count": _one("1"),
    **dict.fromkeys(("sum", "mean", "min", "max", "std"), _number),
    "first": _first,
    "last": _last,
    "last_values": _last,
    "distinct": _distinct,
    "recency": _one(AGE, newest=1),
    "tenure": _one(AGE, oldest=1),
    **dict.fromkeys(("gap_mean", "gap_std", "overdue"), _gaps),
    "gap_last": _last_gap,
    "sum_per": _sum_per,
    **dict.fromkeys(("decayed_count", "decayed_sum"), _decay),
    **dict.fromkeys(("top_share", "top_keys"), _ranked("max(place) desc")),
    "entropy": _keyed,
    "last_key": _last_key,
    "bands": _bands,
    "clock_sin": _wave("sin"),
    "clock_cos": _wave("cos"),
    "clock_share": _clock_share,
    **dict.fromkeys(("clock_entropy", "clock_top"), _clock),
    "same_weekday_share": _weekday,
    "holiday_share": _one("of_holiday"),
    **dict.fromkeys(("sessions", "session_events", "session_length", "bounce_share"), _sessions),
    **dict.fromkeys(("last_session_length", "last_session_events"), _sessions),
    "last_session_age": _one(AGE, newest=1),
    "words": _words,
    "item_popularity": _one("null", where="of_item is not null", key="of_item", newest=1),
}


def _quotient(spec: FeatureSpec, bucket: int, is_sum: bool) -> str:
    """Two amounts: of windows, of kinds, or with and without a condition."""
    far = spec.against
    above = " and ".join([f"kind in ({listed(spec.kinds)})", *map(condition, spec.where)])
    if isinstance(far, Window):
        both, below = events(spec.kinds, far, spec.where), "true"
        above = span(spec.window, 0)[0]
    else:
        kinds = tuple(dict.fromkeys([*spec.kinds, *(far or ())]))
        both, below = events(kinds, spec.window, (), bucket), f"kind in ({listed(far or spec.kinds)})"
    counted = "true" if spec.of is None else f"{_x(spec)} is not null"
    gives = "1" if spec.of is None else _x(spec) if is_sum else _newest_of(_x(spec), "above")
    key = "null" if spec.of is None or is_sum else _x(spec)
    return f"""mine as ({both}),
sided as (select *, coalesce({above}, false) as above, {below} as below from mine where {counted}),
chosen as (
  select *, case when not above then 'denominator' when below then 'both' else 'numerator' end as role,
         ({key})::text as key, ({gives})::double precision as gives
    from sided where above or below
)"""  # noqa: S608 - quoted


def _next(event: str, kinds: Sequence[str]) -> str:
    """The user's first event of `kinds` after `event`."""
    return f"""(
      select o.place, o.t from known o where o.place > {event}.place and o.kind in ({listed(kinds)})
       order by o.place limit 1) next"""  # noqa: S608 - quoted


def _funnel(spec: FeatureSpec, bucket: int) -> str:
    """The starts of the window with how deep each comes (or whether to the step), and the events they come to."""
    values = values_of(spec)
    steps = values["steps"]
    inside = " and ".join([f"kind = {quoted(steps[0])}", *span(spec.window, bucket)])
    parts = [f"step_1 as (select place as start, t as begun, place from known where {inside})"]  # noqa: S608 - quoted
    for n, kind in enumerate(steps[1:], 2):
        parts.append(f"""step_{n} as (
  select s.start, s.begun, next.place
    from step_{n - 1} s cross join lateral {_next("s", [kind])}
   where next.t - s.begun <= {interval(values["bound"])}
)""")  # noqa: S608 - quoted
    reached = " union all ".join(f"select start, place, {n} as step from step_{n}" for n in range(1, len(steps) + 1))  # noqa: S608
    step = values.get("step", len(steps))
    gives = "max(step)" if spec.aggregate == "funnel_depth" else f"(max(step) >= {step})::integer"
    return f"""{", ".join(parts)},
reached as ({reached}),
chosen as (
  select o.*, r.role, null::text as key, d.gives::double precision as gives
    from (select place, 'step ' || string_agg(distinct step::text, ', ') as role from reached group by place) r
    join known o using (place)
    left join (select start, {gives} as gives from reached group by start) d on d.start = o.place
)"""  # noqa: S608 - quoted


def _dwell(spec: FeatureSpec, bucket: int) -> str:
    """The stays of the window with their seconds, and the events that end them."""
    values = values_of(spec)
    inside = " and ".join([f"kind in ({listed(spec.kinds)})", *span(spec.window, bucket)])
    gives = "1" if spec.aggregate == "dwell_count" else "s.seconds"
    return f"""stays as (
  select e.place, next.place as until, {SECONDS.format("next.t - e.t")} as seconds
    from (select * from known where {inside}) e
   cross join lateral {_next("e", values.get("until") or spec.kinds)}
   where next.t - e.t <= {interval(values["timeout"])}
),
chosen as (
  select o.*, concat_ws(', ', case when s.place is not null then 'stay' end,
                        case when o.place in (select until from stays) then 'until' end) as role,
         null::text as key, ({gives})::double precision * (s.place is not null)::integer as gives
    from known o left join stays s on s.place = o.place
   where s.place is not null or o.place in (select until from stays)
)"""  # noqa: S608 - quoted
