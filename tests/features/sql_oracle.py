"""Every feature as plain SQL over ubp.events, as an analyst would write it: the oracle of what the database returns."""

from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.families import FeatureDefinition

KNOWN = """
with known as (
    select user_id, event_time as t, event_time at time zone %(zone)s as local, kind, item_id as item,
           nullif(value, 'NaN') as value, coalesce(attributes->>'order_id', event_time::text) as order_key
    from ubp.events
    where event_time < %(as_of)s and ingested_at <= %(as_of)s
)"""
AGE = "extract(epoch from %(as_of)s::timestamptz - {})::float8 / 86400"
HOUR = "extract(hour from local)"
BANDS = {"night": (0, 5), "morning": (6, 11), "afternoon": (12, 17), "evening": (18, 23)}
AGGREGATES = {
    "count": "count(*) filter (where {w})",
    "orders": "count(distinct order_key) filter (where {w})",
    "distinct_items": "count(distinct item) filter (where {w})",
    "distinct_days": "count(distinct local::date) filter (where {w})",
    "sum_value": "coalesce(sum(value) filter (where {w}), 0)",
    "mean_value": "avg(value) filter (where {w})",
    "mean_order_value": "sum(value) filter (where {w}) / nullif(count(distinct order_key) filter (where {w}), 0)",
    "days_since": AGE.format("max(t) filter (where {w})"),
    "tenure_days": AGE.format("min(t) filter (where {w})"),
    "trend_count": "{o}::float8 * count(*) filter (where {w}) / nullif({d} * count(*) filter (where {v}), 0)",
    "trend_orders": "{o}::float8 * count(distinct order_key) filter (where {w})"
    " / nullif({d} * count(distinct order_key) filter (where {v}), 0)",
    "share": "count(*) filter (where {w})::float8 / nullif(count(*) filter (where {v}), 0)",
    "hour_sin": f"avg(sin(2 * pi() * {HOUR}::float8 / 24)) filter (where {{w}})",
    "hour_cos": f"avg(cos(2 * pi() * {HOUR}::float8 / 24)) filter (where {{w}})",
    "weekend_share": "avg((extract(isodow from local) in (6, 7))::int) filter (where {w})",
    "same_weekday_share": "avg((extract(isodow from local) ="
    " extract(isodow from %(as_of)s::timestamptz at time zone %(zone)s))::int) filter (where {w})",
} | {
    f"{band}_share": f"avg(({HOUR} between {first} and {last})::int) filter (where {{w}})"
    for band, (first, last) in BANDS.items()
}
GAPS = {
    "mean_gap": "avg(gap)",
    "std_gap": "stddev_samp(gap)",
    "last_gap": "(array_agg(gap order by t desc, gap))[1]",
    "overdue_ratio": AGE.format("max(t)") + " / nullif(avg(gap), 0)",
}


def oracle_sql(definition: FeatureSetDefinition) -> dict[str, str]:
    """Per feature a query for psycopg with the parameters `as_of` (timestamptz) and `zone` (text).

    It returns (user_id, value double precision) for each user with an event of any kind known before as_of. Sums are
    in another order than the kernel's, so a value agrees to about 1e-6 of itself, a count exactly.
    """
    return {feature.name: _query(feature) for feature in definition.features}


def _query(f: FeatureDefinition) -> str:
    mine = _within(f.kind, f.window_days)
    if f.family in GAPS:
        return f"""{KNOWN},
orders as (select user_id, order_key, min(t) as t from known where {mine} group by user_id, order_key),
gaps as (
    select user_id, t,
           extract(epoch from t - lag(t) over (partition by user_id order by t))::float8 / 86400 as gap
    from orders
),
found as (select user_id, {GAPS[f.family]} as value from gaps group by user_id)
select user_id, value::float8 from (select distinct user_id from known) as users left join found using (user_id)"""
    other = _within(f.kind, f.other) if isinstance(f.other, int) else _within(str(f.other), f.window_days)
    value = AGGREGATES[f.family].format(w=mine, v=other, d=f.window_days, o=f.other)
    return f"{KNOWN}\nselect user_id, ({value})::float8 as value from known group by user_id"


def _within(kind: str, days: int | None) -> str:
    """In hours: a `day` of an interval follows the session's time zone over a change of its clock."""
    quoted = kind.replace("'", "''").replace("%", "%%")
    since = f" and t >= %(as_of)s::timestamptz - interval '{24 * days} hours'" if days else ""
    return f"kind = '{quoted}'{since}"
