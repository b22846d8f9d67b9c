"""Each feature as plain SQL over ubp.all_events, as an analyst would write it: run it and compare.

A query begins with `given`, the moment and zone it speaks of, and gives (user_id, value) of every user with a known
event of the set's kinds. Sums are in another order than the kernel's, so a value agrees to about 1e-6 of itself, a
count exactly.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ubp_sql.features.ask import key_code, number_range
from ubp_sql.features.columns import CLOCK, CLOCK_SIZE, Declared, expression_of, quoted
from ubp_sql.features.compile import columns_of, values_of
from ubp_sql.features.spec import Condition, FeatureSpec
from ubp_sql.features.windows import DAY_US, Window

if TYPE_CHECKING:
    from ubp_sql.features.definition import FeatureDefinition, FeatureSetDefinition

OF_SET = "select s.as_of, s.time_zone as zone from ubp.feature_sets s where s.name = {name}"
AS_OF = "(select as_of from given)"
NEWEST_FIRST = "t desc, ingested_at desc, event_id desc"
OLDEST_FIRST = "t, ingested_at, event_id"


def oracle(definition: "FeatureSetDefinition", feature: "FeatureDefinition", given: str) -> str:
    """The query of one feature.

    given  SQL that yields one row (as_of timestamptz, zone text), such as OF_SET
    """
    from ubp_sql.features import sql_standing

    spec = feature.spec
    if spec.aggregate in sql_standing.QUERIES:
        return sql_standing.QUERIES[spec.aggregate](definition, feature, given)
    body = _body(definition, feature)
    return f"""with given as ({given}),
known as (
  {known(definition.kinds, spec, definition.declared)}
),
users as (select distinct user_id from known),
{body}"""  # noqa: S608 - text for people and tests; what users wrote is quoted


def known(kinds: Sequence[str], spec: FeatureSpec, declared: Sequence[Declared]) -> str:
    """Events that are known at the moment, with the columns that the spec reads."""
    columns = "".join(f",\n         {expression_of(name, declared)} as {name_of(name)}" for name in columns_of(spec))
    return f"""select e.user_id, e.event_time as t, e.ingested_at, e.event_id, e.kind{columns}
    from given g
    join ubp.all_events e on e.event_time < g.as_of and e.ingested_at <= g.as_of
    left join ubp.sources s on s.source_id = e.source
   where e.kind in ({listed(kinds)})"""  # noqa: S608 - quoted


def name_of(column: str) -> str:
    """The column in `known`: no name of ours, no word of SQL's."""
    return f"of_{column}"


def listed(kinds: Sequence[str]) -> str:
    return ", ".join(map(quoted, kinds))


def events(kinds: Sequence[str], window: Window, where: Sequence[Condition] = (), bucket: int = 0) -> str:
    """The events of `known` that the window holds."""
    conditions = " and ".join([f"kind in ({listed(kinds)})", *map(condition, where), *span(window, bucket)])
    if not window.last:
        return f"select * from known where {conditions}"  # noqa: S608 - quoted
    place = f"row_number() over (partition by user_id order by {NEWEST_FIRST})"
    numbered = f"select *, {place} as newest from known where {conditions}"  # noqa: S608 - quoted
    return f"select * from ({numbered}) n where newest <= {window.last}"  # noqa: S608 - quoted


def span(window: Window, bucket: int) -> list[str]:
    if window.form in ("all", "last"):
        return []
    low = f"t >= {AS_OF} - {interval(window.width_us * (bucket + 1))}"
    return [low, f"t < {AS_OF} - {interval(window.width_us * bucket)}"] if bucket else [low]


def interval(width_us: int) -> str:
    """In hours or seconds: a `day` of an interval follows the session's time zone over a change of its clock."""
    hours, rest = divmod(width_us, 3_600_000_000)
    return f"interval '{width_us // 1_000_000} seconds'" if rest else f"interval '{hours} hours'"


def condition(c: Condition) -> str:
    column = name_of(c.column)
    if isinstance(c.equals, str) and c.column not in CLOCK:
        return f"{column} = {quoted(c.equals)}"
    if c.column == "item" or c.column in CLOCK:
        return f"{column} = {key_code(c)}"
    low, high = number_range(c)
    if c.equals is not None:
        return f"{column} = {low!r}::double precision"
    return band(column, low, high)


def band(column: str, low: float, high: float) -> str:
    parts = [f"{column} >= {low!r}::double precision"] if low > -math.inf else []
    top = "'infinity'" if high == math.inf else repr(high)
    return " and ".join([*parts, f"{column} < {top}::double precision"])


def per_user(table: str, value: str, rest: str = "") -> str:
    """(user_id, value) with one value a user of `table`."""
    return f"select user_id, ({value})::double precision as value from {table} {rest}group by user_id"  # noqa: S608


def _body(definition: "FeatureSetDefinition", feature: "FeatureDefinition") -> str:
    from ubp_sql.features import sql_behaviour

    spec = feature.spec
    if spec.aggregate in sql_behaviour.QUERIES:
        return sql_behaviour.QUERIES[spec.aggregate](spec, values_of(spec), feature.part, feature.bucket)
    if spec.aggregate in ("trend", "ratio", "share"):
        return _two(spec, feature.bucket, spec.of in definition.columns.numbers)
    mine = f"mine as ({events(spec.kinds, spec.window, spec.where, feature.bucket)})"
    steps, value = _GROUPED.get(spec.aggregate, _plain)(spec, feature.part)
    nothing = "coalesce(f.value, 0)" if spec.aggregate in _ZERO else "f.value"
    return f"""{mine},
{steps}found as ({value})
select u.user_id, {nothing} as value from users u left join found f using (user_id) order by u.user_id"""  # noqa: S608


_ZERO = {"count", "sum", "distinct", "decayed_count", "decayed_sum"}
_AGE = "extract(epoch from " + AS_OF + " - {})::double precision / 86400"
_PLAIN = {
    "count": "count(*)",
    "sum": "sum({x})",
    "mean": "avg({x})",
    "min": "min({x})",
    "max": "max({x})",
    "std": "stddev_samp({x})",
    "distinct": "count(distinct {x})",
    "first": f"(array_agg({{x}} order by {OLDEST_FIRST}) filter (where {{x}} is not null))[1]",
    "last": f"(array_agg({{x}} order by {NEWEST_FIRST}) filter (where {{x}} is not null))[1]",
    "recency": _AGE.format("max(t)"),
    "tenure": _AGE.format("min(t)"),
    "clock_sin": "avg(sin(2 * pi() * {x} / {size}))",
    "clock_cos": "avg(cos(2 * pi() * {x} / {size}))",
    "clock_share": "avg(({x} in ({places}))::integer)",
    "same_weekday_share": "avg((of_weekday = (select extract(isodow from as_of at time zone zone) - 1 from given))"
    "::integer)",
    "holiday_share": "avg(of_holiday)",
}


def _plain(spec: FeatureSpec, part: int) -> tuple[str, str]:
    """A value that one aggregate of SQL gives."""
    x, values = name_of(spec.of or ""), values_of(spec)
    first = 0 if spec.of == "hour" else 1
    places = ", ".join(str(place - first) for place in values.get("in", ()))
    made = _PLAIN[spec.aggregate].format(x=x, size=CLOCK_SIZE.get(spec.of or "", 0), places=places)
    return "", per_user("mine", made)


def _last_values(spec: FeatureSpec, part: int) -> tuple[str, str]:
    x = name_of(spec.of or "")
    return "", per_user("mine", f"(array_agg({x} order by {NEWEST_FIRST}) filter (where {x} is not null))[{part + 1}]")


def _sum_per(spec: FeatureSpec, part: int) -> tuple[str, str]:
    per = name_of(spec.settings["per"])
    return "", per_user("mine", f"sum({name_of(spec.of or '')}) / nullif(count(distinct {per}), 0)")


def _bands(spec: FeatureSpec, part: int) -> tuple[str, str]:
    edges = [-math.inf, *values_of(spec)["edges"], math.inf]
    x = name_of(spec.of or "")
    inside = f"count(*) filter (where {band(x, edges[part], edges[part + 1])})"
    return "", per_user("mine", f"{inside}::double precision / nullif(count({x}), 0)")


def _decay(spec: FeatureSpec, part: int) -> tuple[str, str]:
    seconds = values_of(spec)["half_life"] / 1_000_000
    x = "" if spec.aggregate == "decayed_count" else f"{name_of(spec.of or '')} * "
    age = f"extract(epoch from {AS_OF} - t)::double precision / {seconds!r}"
    # Beyond 1000 half-lives nothing is left, and power() would refuse to say so.
    return "", per_user("mine", f"sum({x}power(2::double precision, -least({age}, 1000)))")


def _gaps(spec: FeatureSpec, part: int) -> tuple[str, str]:
    starts = "select user_id, t, ingested_at, event_id from mine"
    if spec.of is not None:
        key = name_of(spec.of)
        starts = (
            f"select user_id, min(t) as t from mine where {key} is not null "  # noqa: S608 - a name of ours
            f"group by user_id, {key}"
        )
    steps = f"""starts as ({starts}),
gaps as (
  select user_id, t,
         extract(epoch from t - lag(t) over (partition by user_id order by t))::double precision / 86400 as gap
    from starts
),
"""  # noqa: S608 - names of ours
    value = {
        "gap_mean": "avg(gap)",
        "gap_std": "stddev_samp(gap)",
        "gap_last": "(array_agg(gap order by t desc, gap))[1]",
        "overdue": f"{_AGE.format('max(t)')} / nullif(avg(gap), 0)",
    }[spec.aggregate]
    return steps, per_user("gaps", value)


def _keyed(spec: FeatureSpec) -> str:
    key = name_of(spec.of or "")
    return f"""counts as (
  select user_id, {key} as key, count(*) as n from mine where {key} is not null group by user_id, {key}
),
"""  # noqa: S608 - names of ours


def _top_share(spec: FeatureSpec, part: int) -> tuple[str, str]:
    return _keyed(spec), per_user("counts", "max(n)::double precision / sum(n)")


def _entropy(spec: FeatureSpec, part: int) -> tuple[str, str]:
    return _keyed(spec), per_user("counts", "greatest(ln(sum(n)::double precision) - sum(n * ln(n)) / sum(n), 0)")


def _clock_top(spec: FeatureSpec, part: int) -> tuple[str, str]:
    return _keyed(spec), per_user("counts", "(array_agg(key order by n desc, key))[1]")


def _top_keys(spec: FeatureSpec, part: int) -> tuple[str, str]:
    """Of equally frequent keys the one that was seen later."""
    key = name_of(spec.of or "")
    steps = f"""ranked as (
  select *, row_number() over (partition by user_id order by {OLDEST_FIRST}) as place from mine where {key} is not null
),
counts as (select user_id, {key} as key, count(*) as n, max(place) as newest from ranked group by user_id, {key}),
chosen as (
  select user_id, key as x
    from (select *, row_number() over (partition by user_id order by n desc, newest desc) as rank from counts) r
   where rank = {part + 1}
),
"""  # noqa: S608 - names of ours
    return steps + _code(spec), per_user("coded", "max(code)")


def _last_key(spec: FeatureSpec, part: int) -> tuple[str, str]:
    key = name_of(spec.of or "")
    steps = f"""chosen as (
  select user_id, key as x
    from (select user_id, {key} as key, row_number() over (partition by user_id order by {NEWEST_FIRST}) as newest
            from mine) r
   where newest = 1 and key is not null
),
"""  # noqa: S608 - names of ours
    return steps + _code(spec), per_user("coded", "max(code)")


def _code(spec: FeatureSpec) -> str:
    """20 bits of a hash of the key (Stafford's mix 13), in whole numbers modulo 2**64."""
    h = "x" if spec.of == "item" else "hashtextextended(x, 0)"

    def shifted(value: str, bits: int) -> str:
        return f"({value} # (({value} >> {bits}) & {(1 << (64 - bits)) - 1}))"

    def times(value: str, factor: int) -> str:
        product = f"mod(mod({value}::numeric * {factor}, {1 << 64}) + {1 << 64}, {1 << 64})"
        return f"(case when {product} >= {1 << 63} then {product} - {1 << 64} else {product} end)::bigint"

    return f"""hashed as (select user_id, {h} as h from chosen),
mixed as (select user_id, {times(shifted("h", 30), 0xBF58476D1CE4E5B9)} as h from hashed),
mixed_again as (select user_id, {times(shifted("h", 27), 0x94D049BB133111EB)} as h from mixed),
coded as (select user_id, {shifted("h", 31)} & 1048575 as code from mixed_again),
"""  # noqa: S608 - numbers


_GROUPED = {
    "last_values": _last_values,
    "sum_per": _sum_per,
    "bands": _bands,
    "decayed_count": _decay,
    "decayed_sum": _decay,
    "gap_mean": _gaps,
    "gap_std": _gaps,
    "gap_last": _gaps,
    "overdue": _gaps,
    "top_share": _top_share,
    "entropy": _entropy,
    "clock_entropy": _entropy,
    "clock_top": _clock_top,
    "top_keys": _top_keys,
    "last_key": _last_key,
}


def _two(spec: FeatureSpec, bucket: int, is_sum: bool) -> str:
    """One amount divided by another."""
    far = spec.against
    if isinstance(far, Window):
        other = events(spec.kinds, far, spec.where)
    else:
        other = events(far or spec.kinds, spec.window, (), bucket)
    rates = "", ""
    if spec.aggregate == "trend" and isinstance(far, Window):
        rates = f" * {far.width_us / DAY_US!r}", f" * {spec.window.width_us / DAY_US!r}"
    value = "count(*)"
    if spec.of is not None:
        value = f"sum({name_of(spec.of)})" if is_sum else f"count(distinct {name_of(spec.of)})"
    return f"""mine as ({events(spec.kinds, spec.window, spec.where, bucket)}),
far as ({other}),
amounts as ({per_user("mine", value)}),
bases as ({per_user("far", value)})
select u.user_id, coalesce(a.value, 0){rates[0]} / nullif(b.value{rates[1]}, 0) as value
  from users u left join amounts a using (user_id) left join bases b using (user_id) order by u.user_id"""  # noqa: S608
