"""The 25 features at many (user, moment) pairs as SQL: LATERAL for PostgreSQL, a join or frames for DuckDB."""

from bench.features25 import HALF_LIFE_DAYS, WINDOWS
from bench.rivals.sql_text import DUCKDB, POSTGRES, cells, decayed, finals

_KIND_GAP = "date_part('epoch', event_time - lag(event_time) over (partition by {by} order by event_time)) / 86400.0"


def lateral_form(pairs: str) -> str:
    """For each row of `pairs` (pair, user_id, moment): the user's events before the moment through the index."""
    return f"""
select p.pair, {finals("p.moment")}
  from {pairs} p cross join lateral (
       select {cells(POSTGRES, "p.moment")}
         from (select *, {_KIND_GAP.format(by="kind")} as gap
                 from bench.events b
                where b.user_id = p.user_id and {POSTGRES.wanted} and b.event_time < p.moment) e) c"""


def join_form(pairs: str) -> str:
    """DuckDB: all pairs joined with all their events, then small groups.

    Joins are by user; what lies outside a pair's time falls out right behind the join.
    """
    longest = f"p.moment - interval '{24 * WINDOWS[-1]} hours'"
    sums = ", ".join(
        f"countif(kind = 'purchase' and {_since(w)}) as n_purchase_{w}, "
        f"sum(case when kind = 'purchase' and {_since(w)} then value end) as s_purchase_{w}, "
        f"countif(kind = 'view' and {_since(w)}) as n_view_{w}"
        for w in WINDOWS
    )

    def distinct(what: str, key: str) -> str:
        counts = ", ".join(
            f"countif(newest >= moment - interval '{24 * w} hours') as {what}_purchase_{w}" for w in WINDOWS
        )
        return f"""
        select pair, {counts}
          from (select pair, {key} as key, any_value(moment) as moment, max(event_time) as newest
                  from recent where kind = 'purchase' group by pair, {key}) x group by pair"""

    gap = _KIND_GAP.format(by="user_id")
    return f"""
with recent as materialized (
         select p.pair, p.moment, e.event_time, e.kind, e.item_id, e.value
           from {pairs} p join events e using (user_id)
          where e.event_time < p.moment and e.event_time >= {longest} and e.{DUCKDB.wanted}),
     sums as (select pair, {sums} from recent group by pair),
     items as ({distinct("i", "item_id")}),
     days as ({distinct("d", "event_time::date")}),
     seen as (select p.pair, max(e.event_time) as last_view from {pairs} p join events e using (user_id)
               where e.event_time < p.moment and e.kind = 'view' group by p.pair),
     gaps as (select p.pair, max(event_time) as last_purchase, avg(gap) as gap_mean, stddev_samp(gap) as gap_std,
                     sum({decayed("p.moment")}) as decayed
                from {pairs} p join (select user_id, event_time, value, {gap} as gap
                                       from events where kind = 'purchase') e using (user_id)
               where e.event_time < p.moment group by p.pair)
select p.pair, {finals("p.moment")}
  from {pairs} p left join sums using (pair) left join items using (pair) left join days using (pair)
       left join seen using (pair) left join gaps using (pair)"""


def frames_form(origin: str) -> str:
    """DuckDB: at every event's own time, by RANGE frames over the events before it. `origin` anchors the decay.

    Distinct counts are DISTINCT aggregates over the frame, which DuckDB answers from a merge sort tree. Running totals
    looked up by ASOF joins, with frames for the distinct items only, took 5 % longer.
    """
    before = "interval 1 microsecond preceding"
    parts = []
    for w in WINDOWS:
        width = f"range between interval {24 * w} hours preceding and {before}"
        frame = f"over (partition by user_id order by event_time {width})"
        parts += [
            f"count(*) filter (where kind = 'purchase') {frame} as n_purchase_{w}",
            f"sum(value) filter (where kind = 'purchase') {frame} as s_purchase_{w}",
            f"count(distinct item_id) filter (where kind = 'purchase') {frame} as i_purchase_{w}",
            f"count(distinct event_time::date) filter (where kind = 'purchase') {frame} as d_purchase_{w}",
            f"count(*) filter (where kind = 'view') {frame} as n_view_{w}",
        ]
    past = "over (partition by user_id order by event_time rows between unbounded preceding and 1 preceding)"
    half = f"date_part('epoch', event_time - {origin}) / {HALF_LIFE_DAYS * 86400}.0"
    parts += [
        *(f"max(event_time) filter (where kind = '{kind}') {past} as last_{kind}" for kind in ("view", "purchase")),
        f"avg(gap) filter (where kind = 'purchase') {past} as gap_mean",
        f"stddev_samp(gap) filter (where kind = 'purchase') {past} as gap_std",
        f"sum(value * power(2.0::float8, {half})) filter (where kind = 'purchase') {past}"
        f" / power(2.0::float8, {half}) as decayed",
    ]
    return f"""
select {finals("event_time")}
  from (select user_id, event_time, {", ".join(parts)}
          from (select *, {_KIND_GAP.format(by="user_id, kind")} as gap from events) e) c
 order by user_id, event_time"""


def _since(days: int) -> str:
    return f"event_time >= moment - interval '{24 * days} hours'"
