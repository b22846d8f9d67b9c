"""percentile and item_popularity as plain SQL: the same population, counted anew from the events that there are now.

What is recorded in ubp.standings may differ where events of before that day came, changed or went later on.
"""

from typing import TYPE_CHECKING

from ubp_sql.features.sql import AS_OF, interval, known, listed, oracle

if TYPE_CHECKING:
    from ubp_sql.features.definition import FeatureDefinition, FeatureSetDefinition

DAY_START = "date_trunc('day', {} at time zone 'UTC') at time zone 'UTC'"


def percentile(definition: "FeatureSetDefinition", feature: "FeatureDefinition", given: str) -> str:
    """The base feature of everybody at the moment, ranked among the base feature of everybody at the day's start."""
    base = next(f for f in definition.features if f.name == feature.spec.of)
    then = f"select {DAY_START.format('g.as_of')} as as_of, g.zone from ({given}) g"  # noqa: S608 - text for people
    return f"""with own as (
{oracle(definition, base, given)}
),
everybody as (
{oracle(definition, base, then)}
),
ranks as (select value::real as value, count(*) as users from everybody where value is not null group by value::real)
select o.user_id,
       case when o.value is not null then (
         select 100 * coalesce(sum(case when r.value < o.value::real then r.users
                                        when r.value = o.value::real then r.users / 2.0 end), 0) / nullif(sum(users), 0)
           from ranks r) end::double precision as value
  from own o order by o.user_id"""  # noqa: S608 - text for people and tests


def item_popularity(definition: "FeatureSetDefinition", feature: "FeatureDefinition", given: str) -> str:
    """The item of the user's newest event that has one, and how many events of everybody are on it."""
    spec = feature.spec
    mine = f"kind in ({listed(spec.kinds)}) and of_item is not null"
    start = DAY_START.format(AS_OF)
    return f"""with given as ({given}),
known as (
  {known(definition.kinds, spec, definition.declared)}
),
users as (select distinct user_id from known),
everybody as (
  select of_item, t, ingested_at from known where {mine}
  union all
  select item_id, event_time, ingested_at from ubp.anonymous_events
   where kind in ({listed(spec.kinds)}) and item_id is not null
),
counted as (
  select of_item, count(*) as events from everybody
   where t >= {start} - {interval(spec.window.width_us)} and t < {start} and ingested_at <= {start}
   group by of_item
),
found as (
  select distinct on (k.user_id) k.user_id, coalesce(c.events, 0) as value
    from known k left join counted c using (of_item) where {mine}
   order by k.user_id, k.t desc, k.ingested_at desc, k.event_id desc
)
select u.user_id, f.value::double precision as value
  from users u left join found f using (user_id) order by u.user_id"""  # noqa: S608 - quoted


QUERIES = {"percentile": percentile, "item_popularity": item_popularity}
