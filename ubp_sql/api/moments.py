"""Moments as SQL users write them, turned into microseconds; and the feature set that a call names."""

from functools import lru_cache
from typing import Any, NamedTuple

from ubp_sql.api.session import no_such_set, single
from ubp_sql.errors import BadInput, FeatureSetMismatch
from ubp_sql.features.definition import FeatureSetDefinition

# The years 1 to 9998: what every client can read back, and far within the kernels' range. CASE, not WHERE: the planner
# computes constants before it looks at a condition, and infinity has no bigint.
MOMENT = """
select case when m.usable then (extract(epoch from $1) * 1000000)::bigint end as us,
       case when m.usable then (extract(epoch from $1 at time zone $2) * 1000000)::bigint end as local_us
  from (select $1 >= '0001-01-02 00:00+00' and $1 < '9999-01-01 00:00+00' as usable) m"""
SET_BY_NAME = """
select feature_set_id, name, hash, definition, time_zone, as_of from ubp.feature_sets where name = $1"""
SET_BY_ID = """
select feature_set_id, name, hash, definition, time_zone, as_of from ubp.feature_sets where feature_set_id = $1"""

HOLIDAYS = """
select array_agg(distinct c.day - date '1970-01-01' order by c.day - date '1970-01-01') as days
  from ubp.calendar c where c.kind = 'holiday' and c.region in ('', $1)"""


class FeatureSet(NamedTuple):
    """A row of ubp.feature_sets with its definition rebuilt."""

    feature_set_id: int
    name: str
    time_zone: str
    as_of: str | None
    definition: FeatureSetDefinition
    holidays: tuple[int, ...] = ()
    """Days since 1970 of ubp.calendar, ascending, where a feature asks for holidays."""


def moment_us(plpy: Any, memory: dict[str, Any], value: str | None, zone: str, what: str = "as_of") -> tuple[int, int]:
    """(UTC, local) microseconds since 1970 of a timestamptz.

    Raises BadInput (UB003) on NULL, infinity and far years.
    """
    if value is None:
        raise BadInput(
            f"{what} is NULL", f"give a moment, for example timestamptz '2011-11-09 00:00+00'; {what} is never guessed"
        )
    row = single(plpy, memory, MOMENT, ["timestamptz", "text"], [value, zone])
    if row is None or row["us"] is None:
        raise BadInput(f"{what} is {value}", "give a moment between the years 1 and 9998")
    return row["us"], row["local_us"]


def feature_set(plpy: Any, memory: dict[str, Any], key: str | int) -> FeatureSet:
    """The set of that name or number.

    Raises NotReady (UB005) when there is none, FeatureSetMismatch (UB002) when this code would compute it differently.
    """
    if isinstance(key, str):
        row = single(plpy, memory, SET_BY_NAME, ["text"], [key])
    else:
        row = single(plpy, memory, SET_BY_ID, ["integer"], [key])
    if row is None:
        raise no_such_set(plpy, memory, key)
    try:
        definition = _definition(row["definition"])
    except BadInput:
        definition = None
    if definition is None or definition.hash != row["hash"]:
        raise FeatureSetMismatch(
            f"feature set {row['name']!r} was defined by a version that computed it differently",
            "define it under a new name with ubp.define_feature_set and train again",
        )
    holidays: tuple[int, ...] = ()
    if definition.uses_holidays:
        days = single(plpy, memory, HOLIDAYS, ["text"], [row["time_zone"]])
        holidays = tuple(days["days"] or ()) if days else ()
    return FeatureSet(row["feature_set_id"], row["name"], row["time_zone"], row["as_of"], definition, holidays)


@lru_cache(maxsize=16)
def _definition(text: str) -> FeatureSetDefinition:
    """A session asks for the same few sets again and again, and to make one takes milliseconds."""
    return FeatureSetDefinition.from_json(text)
