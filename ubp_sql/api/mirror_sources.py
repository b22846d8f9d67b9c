"""What a fold asks of attached sources: whether they are as they were, new partitions and keys, what no trigger saw."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ubp_sql.api.event_rows import Origin, number_keys, query_origin
from ubp_sql.api.mirror_rows import BEFORE_US, Mark
from ubp_sql.api.session import Row, run, sent_ids, sqlstate
from ubp_sql.api.source_errors import CODES, PROBLEMS
from ubp_sql.api.source_rows import Where
from ubp_sql.errors import SourceChanged

if TYPE_CHECKING:
    from ubp_sql.api.mirror_fold import Said

WATCH = "select ubp.watch_sources()"
# Oids of another database, which this one is a copy of, say nothing. A partition without a trigger stays new:
# statements that name it are not heard.
PARTS = """
select s.source_id, x.now::text as now, coalesce(x.gone, false) and s.database = d.oid as gone,
       case when s.database = d.oid then x.fresh end as fresh
  from ubp.attached_sources s
 cross join (select d.oid from pg_database d where d.datname = current_database()) d
 cross join lateral (
   select array_agg(t.oid order by t.oid) filter (where t.heard) as now,
          exists (select from unnest(s.partitions) p where p <> all (array_agg(t.oid))) as gone,
          array_agg(t.name) filter (where t.isleaf and not (t.heard and t.oid = any (s.partitions))) as fresh
     from (select t.relid::oid as oid, t.relid::regclass::text as name, t.isleaf,
                  not t.isleaf or exists (
                    select from pg_trigger g join pg_proc f on f.oid = g.tgfoid
                     where g.tgrelid = t.relid and f.proname = format('source_%s_insert', s.source_id)
                       and f.pronamespace = 'ubp'::regnamespace) as heard
             from pg_partition_tree(to_regclass(format('%I.%I', s.schema_name, s.relation_name))) t) t) x
 where s.relkind = 'p'"""
KEEP_PARTS = """
update ubp.attached_sources set partitions = $2::text::oid[]
 where source_id = $1 and partitions is distinct from $2::text::oid[]"""
USERS = """
select string_agg(int8send(x.user_id), '') as users
  from (select distinct e.user_id from {relation} e where {where}) x"""
OF_KEYS = Where(inner="{whose} = any ($1)")
IDS = """
select array_agg(v.user_id) as ids
  from ubp.users u left join ubp.user_members m on m.member_id = u.user_id
 cross join lateral (values (u.user_id), (m.user_id)) v (user_id)
 where u.user_key = any ($1) and u.tenant = 0 and v.user_id is not null"""
HIGHEST = "select max({mark}) as mark from {rows}"
# Of times that an event may have: the others are no events. What lies ahead is read when its time has come: a mark
# there would have passed over all that comes until then.
NEWEST = """
select (extract(epoch from max({mark})) * 1000000)::bigint as mark,
       (extract(epoch from now()) * 1000000)::bigint as latest
  from {rows} where {mark} >= '1900-01-01 00:00+00' and {mark} <= now()"""
KEEP_MARK = "update ubp.attached_sources set watermark_at = $2 where source_id = $1"
OVERLAP = {"event_key": 10_000, "time": 3_600_000_000}
"""Ids, and microseconds, that are read again: whoever took a number or a time may commit after who took a later one."""


def problems(plpy: Any, memory: dict[str, Any]) -> list[Row]:
    """What keeps attached sources from being read as they were attached."""
    return list(run(plpy, memory, PROBLEMS, [], []))


def refuse_changed(plpy: Any, memory: dict[str, Any], origins: Sequence[Origin]) -> None:
    """Raises SourceChanged (UB015) where an attached source is not as it was attached; else locks it as it is."""
    for origin in origins:
        if origin.source is not None:
            _lock(plpy, origin.source.relation)
    for row in problems(plpy, memory):
        raise SourceChanged(f"source {row['source']}: {row['problem']}", row["way_out"])


def _lock(plpy: Any, relation: str) -> None:
    """Until the transaction ends, with what a view reads: to parse does that, and runs nothing, as to plan would."""
    try:
        plpy.prepare(f"select from {relation}")
    except plpy.SPIError as error:
        # What is wrong the look says.
        if sqlstate(error) not in CODES:
            raise


def partitions(plpy: Any, memory: dict[str, Any], origins: Sequence[Origin]) -> tuple[bool, list[tuple[Origin, str]]]:
    """Whether a partition is gone, and those that are new; from now on these are listened to."""
    by_number = {origin.number: origin for origin in origins}
    rows = [row for row in run(plpy, memory, PARTS, [], []) if row["source_id"] in by_number]
    run(plpy, memory, WATCH, [], [])
    for row in rows:
        run(plpy, memory, KEEP_PARTS, ["integer", "text"], [row["source_id"], row["now"]])
    fresh = [(by_number[row["source_id"]], leaf) for row in rows for leaf in row["fresh"] or ()]
    return any(row["gone"] for row in rows), fresh


def know_everybody(plpy: Any, memory: dict[str, Any], origins: Sequence[Origin]) -> None:
    """Gives ids to all key texts."""
    for origin in origins:
        number_keys(plpy, {}, Where(), [], [], origin)


def users_of(plpy: Any, memory: dict[str, Any], origin: Origin, leaf: str) -> list[int]:
    """Whose events a partition holds."""
    # Through the whole: the right to read it is no right to read its partitions.
    quoted = leaf.replace("'", "''").replace("{", "{{").replace("}", "}}")
    inside = Where(inner=f"tableoid = '{quoted}'::regclass")
    number_keys(plpy, {}, inside, [], [], origin)
    return list(sent_ids(query_origin(plpy, {}, USERS, origin, inside, [], [])[0]["users"]))


def known(plpy: Any, memory: dict[str, Any], origins: Sequence[Origin], said: "Said") -> "Said":
    """What the log says, with the users of key texts that had no id: they get one if they have an event."""
    if not said.keys:
        return said
    by_number = {origin.number: origin for origin in origins}
    users = set(said.users)
    for number, keys in said.keys:
        if number in by_number:
            number_keys(plpy, memory, OF_KEYS, ["text[]"], [keys], by_number[number])
        users.update(run(plpy, memory, IDS, ["text[]"], [keys])[0]["ids"] or ())
    return said._replace(users=sorted(users), keys=[])


def marks(plpy: Any, memory: dict[str, Any], origins: Sequence[Origin]) -> Iterator[Mark]:
    """Of sources that no trigger watches what is new since the last fold, with an overlap; of one that is new, all.

    Where there is nothing, nothing is new. The end is fixed before anything is read.
    """
    for origin in origins:
        source = origin.source
        if source is None or source.watermark is None:
            continue
        form = "event_key" if source.watermark == "event_key" else "time"
        if form == "event_key":
            row = query_origin(plpy, memory, HIGHEST, origin, Where(), [], [])[0]
        else:
            row = query_origin(plpy, memory, NEWEST, origin, Where(), [], [])[0]
        newest, before = row["mark"], source.watermark_at
        if newest is None:
            continue
        if before is None:
            yield Mark(origin, BEFORE_US, newest).from_the_first()
        else:
            before = min(before, row.get("latest", before))
            yield Mark(origin, before - OVERLAP[form], max(newest, before))


def keep_marks(plpy: Any, memory: dict[str, Any], found: Sequence[Mark]) -> None:
    """The next fold begins there."""
    for mark in found:
        run(plpy, memory, KEEP_MARK, ["integer", "bigint"], [mark.origin.number, mark.high])


def seen(origins: Sequence[Origin]) -> list[Mark]:
    """Up to where folds have read."""
    return [
        Mark(origin, BEFORE_US, origin.source.watermark_at)
        for origin in origins
        if origin.source is not None and origin.source.watermark_at is not None
    ]


def users_beyond(plpy: Any, memory: dict[str, Any], mark: Mark) -> list[int]:
    """Whose events are new, of a source that has to be read by whole users."""
    types, arguments = ["bigint", "bigint"], [mark.low, mark.high]
    number_keys(plpy, memory, mark.where, types, arguments, mark.origin)
    return list(sent_ids(query_origin(plpy, memory, USERS, mark.origin, mark.where, types, arguments)[0]["users"]))
