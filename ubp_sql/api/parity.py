"""The invariant in one call: stored row = live row at the same moment = training row at that cut, to the bit."""

from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ubp_sql.api.ageing import ROW, ageing_of, at_as_of
from ubp_sql.api.event_rows import EVENTS, origins, query_origin
from ubp_sql.api.events import read_users
from ubp_sql.api.live import live_row
from ubp_sql.api.mirror_fold import look
from ubp_sql.api.moments import FeatureSet, feature_set, moment_us
from ubp_sql.api.pending import pending_users
from ubp_sql.api.session import Row, check_version, entry, prepare_numba, run, sent_ids, touch
from ubp_sql.api.source_rows import Where
from ubp_sql.errors import BadInput, NotReady

if TYPE_CHECKING:
    from ubp_sql.kernels.dispatch import F32

MOST_SAMPLED = 100_000
MOST_SHOWN = 1_000
TOGETHER = 500
# Users with a row, and users with an event, of whom one may wrongly have no row. Whom the log or the dirty users name
# is left aside: the next refresh computes him.
WITH_ROW = """
select string_agg(int8send(x.user_id), '') as users
  from (select r.user_id from ubp.feature_rows r where r.feature_set_id = $1 order by random() limit $2) x"""
WITH_EVENT = """
select string_agg(int8send(x.user_id), '') as users
  from (select e.user_id from {relation} e where e.kind = any ($1) and {where} limit $2) x"""
DRAWN = Where(inner="random() < $3")
ROWS = f"""
select x.user_id, {ROW},
       s.stale or exists (select 1 from ubp.dirty_users d
                           where d.feature_set_id = $1 and d.user_id = x.user_id) as pending
  from unnest($2::bigint[]) as x (user_id)
 cross join ubp.feature_sets s
  left join ubp.feature_rows r on r.feature_set_id = s.feature_set_id and r.user_id = x.user_id
 where s.feature_set_id = $1 order by x.user_id"""  # noqa: S608 - constants only
ABOUT_ITEMS = """
select array_agg(distinct e.user_id) as users
  from ubp.event_rows() e
  join ubp.event_log l on l.op = 'A' and e.event_time >= l.min_time and e.ingested_at >= l.min_ingested
                      and (l.items is null or e.item_id = any (l.items))
 where e.user_id = any ($1)"""
EVENTS_ABOUT = """
select coalesce(sum(greatest(c.reltuples, 0)), 0)::double precision as n
  from pg_class c
 where c.oid = to_regclass($1) or c.oid in (select t.relid from pg_partition_tree(to_regclass($1)) t)"""

Difference = tuple[str, int | None, int | None, str | None, float | None, float | None, float | None]


@entry
def parity_check(plpy: Any, memory: dict[str, Any], sample: int | None, name: str) -> list[Difference]:
    """(what, users, user_id, feature, stored, live, training): three rows of counts, then what differs."""
    check_version(plpy, memory)
    if sample is None or not 1 <= sample <= MOST_SAMPLED:
        raise BadInput(f"a sample of {sample} users", f"a number from 1 to {MOST_SAMPLED}")
    found = feature_set(plpy, memory, name)
    if found.as_of is None:
        raise NotReady("the features were never computed", "select * from ubp.refresh_features()")
    rows = _drawn(plpy, memory, found, sample)
    checked = [row for row in rows if not row["pending"]]
    shown: list[Difference] = []
    users = 0
    for low in range(0, len(checked), TOGETHER):
        part = checked[low : low + TOGETHER]
        training = _training_rows(plpy, memory, found, [row["user_id"] for row in part])
        for row in part:
            differing = list(_differing(plpy, memory, found, row, training.get(row["user_id"])))
            users += bool(differing)
            shown += differing[: MOST_SHOWN - len(shown)]
    counts = (("equal", len(checked) - users), ("differing", users), ("pending", len(rows) - len(checked)))
    return [*((what, n, None, None, None, None, None) for what, n in counts), *shown]


def _drawn(plpy: Any, memory: dict[str, Any], found: FeatureSet, sample: int) -> list[Row]:
    """Rows of ROWS, of twice as many users at most for each place where events lie."""
    number, kinds = found.feature_set_id, list(found.definition.kinds)
    users = set(sent_ids(run(plpy, memory, WITH_ROW, ["integer", "integer"], [number, sample])[0]["users"]))
    everywhere = origins(plpy, memory)
    for origin in everywhere:
        name = EVENTS if origin.source is None else origin.source.relation
        about = run(plpy, memory, EVENTS_ABOUT, ["text"], [name])[0]["n"]
        types, arguments = ["text[]", "integer", "double precision"], [kinds, sample, 10 * sample / max(about, 1.0)]
        users.update(sent_ids(query_origin(plpy, {}, WITH_EVENT, origin, DRAWN, types, arguments)[0]["users"]))
    said = look(plpy, memory, everywhere)
    waits = pending_users(plpy, memory, said, users)
    if said.items:
        waits.update(run(plpy, memory, ABOUT_ITEMS, ["bigint[]"], [list(users)])[0]["users"] or ())
    rows = run(plpy, memory, ROWS, ["integer", "bigint[]"], [number, list(users)])
    everybody = said.everything or said.anew
    return [{**row, "pending": row["pending"] or everybody or row["user_id"] in waits} for row in rows]


def _differing(
    plpy: Any, memory: dict[str, Any], found: FeatureSet, row: dict[str, Any], training: "F32 | None"
) -> Iterator[Difference]:
    user = row["user_id"]
    live = live_row(plpy, memory, found.feature_set_id, user, found.as_of)
    forms: list[array[float] | None] = [None, None, None]
    if row["packed"] is not None:
        forms[0] = array("f", at_as_of(ageing_of(plpy, memory, found.feature_set_id), row))
    if live is not None:
        forms[1] = array("f", live)
    if training is not None:
        forms[2] = array("f", training.tobytes())
    if len({None if form is None else form.tobytes() for form in forms}) == 1:
        return
    features = [feature.name for feature in found.definition.features]
    for place, feature in enumerate(features):
        values = [None if form is None else form[place : place + 1] for form in forms]
        if len({None if value is None else value.tobytes() for value in values}) > 1:
            numbers = [None if not value or value[0] != value[0] else value[0] for value in values]
            yield ("differs", None, user, feature, numbers[0], numbers[1], numbers[2])


def _training_rows(plpy: Any, memory: dict[str, Any], found: FeatureSet, users: list[int]) -> "dict[int, F32]":
    """Rows as a training set has them at a cut: from all events, as they were known at the cut."""
    prepare_numba()
    import numpy as np

    from ubp_sql.api.refresh_rows import Moment, compute_users

    definition = found.definition
    moment = Moment(str(found.as_of), *moment_us(plpy, memory, found.as_of, found.time_zone))
    events = read_users(plpy, memory, definition.kinds, definition.columns, users)
    touch(plpy, memory)
    if events is None:
        return {}
    made = compute_users(plpy, memory, found, events, np.arange(len(events.user_id)), moment)
    return dict(zip(made.user_ids.tolist(), made.features, strict=True))
