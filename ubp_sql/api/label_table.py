"""Labels in a table of the user's own: looked at when a task is defined, and again before each read.

Functions that train read it with the rights of ubp_owner, so only after the same looks as at a relation that is to be
attached: nothing that anybody but a superuser could replace may run in between.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api.attach_compile import INTEGERS, NUMBERS
from ubp_sql.api.attach_relation import Relation, describe
from ubp_sql.api.session import run, single, sqlstate
from ubp_sql.api.source_errors import CODES
from ubp_sql.errors import BadInput, InstallError, SourceChanged, UbpError
from ubp_sql.features.columns import quoted
from ubp_sql.features.label_rule import COLUMNS, LabelTable
from ubp_sql.features.suggest import meant

if TYPE_CHECKING:
    from ubp_sql.features.labels import Outcomes
    from ubp_sql.kernels.dispatch import I64

TEXTS = {"text", "character varying", "uuid"}
TIMES = {"timestamp with time zone", "timestamp without time zone", "date"}
FITS = {"user": INTEGERS | TEXTS, "time": TIMES, "value": NUMBERS, "known_at": TIMES}
OID = """
select c.oid::bigint as oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = $1 and c.relname = $2"""
TYPES = """
select a.attname::text as name, format_type(a.atttypid, null) as type
  from pg_attribute a where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped order by a.attnum"""
# The role whose rights count, as for the table of a training set.
RIGHTS = """
select x.who, has_schema_privilege(x.who, c.relnamespace, 'usage') as of_schema,
       has_table_privilege(x.who, c.oid, 'select')
         or (select bool_and(has_column_privilege(x.who, c.oid, n, 'select')) from unnest($2) n) as of_relation
  from pg_class c,
       unnest(array[coalesce(nullif(current_setting('role'), 'none'), session_user), 'ubp_owner']) with ordinality
         as x (who, place)
 where c.oid = $1::oid order by x.place"""
# Relations that a view reads, and itself.
_BASES = """
select distinct b.oid from (
  with recursive bases as (
    select {of} as oid
    union
    select d.refobjid from bases v join pg_rewrite r on r.ev_class = v.oid
      join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
  ) select oid from bases) b"""
FEATURES_TOO = f"""
select s.name, a.relation::oid = $1::oid as same, a.event_time, a.kind
  from ubp.attached_sources a join ubp.sources s using (source_id)
 where exists ({_BASES.format(of="$1::oid")} intersect {_BASES.format(of="a.relation::oid")})
 order by s.name"""  # noqa: S608 - constants only
ROWS = "select {user} as user_id, {time} as time, {value} as value, {known} as known_at from {relation}"
# Whom a key is: as loads and ubp.resolve_user read it.
KEYS = """
select coalesce(u.user_id, case when k.user_id ~ '^(0|[1-9][0-9]{{0,14}})$' then k.user_id::bigint end) as user_id,
       k.time, k.value, k.known_at
  from ({rows}) k left join ubp.users u on u.user_key = k.user_id and u.tenant = 0"""
HAPPENED = "r.time >= '0001-01-02 00:00+00' and r.time <= now()"
READ = """
select string_agg(int8send(y.user_id), '') as users, string_agg(timestamptz_send(y.time), '') as times,
       string_agg(float8send(y.value), '') as values
  from (select coalesce(m.user_id, r.user_id) as user_id, r.time,
               coalesce(r.value, 'NaN')::double precision as value
          from ({rows}) r left join ubp.user_members m on m.member_id = r.user_id
         where {happened}
         order by 1, 2) y
 where y.user_id between $1 and $2"""
LOOK = """
select (extract(epoch from max(r.time) filter (where r.known_at <= now())) * 1000000)::bigint as seen_us,
       count(*) filter (where r.known_at < r.time) as early, count(*) as n
  from ({rows}) r where {happened}"""
EVENTS_DO = """{"any": "kind"} or {"sum": "value", "kinds": [...]} takes events, whose past and future are kept apart"""


NOTHING_SEEN = -(1 << 62)
"""Earlier than every moment."""


class Read(NamedTuple):
    """A table that may be read now; the statement that the looks were at holds its locks until the transaction ends."""

    plan: Any
    seen_us: int


def looked_at(plpy: Any, memory: dict[str, Any], table: LabelTable, kinds: Sequence[str], zone: str) -> LabelTable:
    """The table with its columns' types.

    kinds  of the feature set
    zone   in which times without one are read

    Raises BadInput (UB003) where it cannot be a label, InstallError (UB011) where a right is missing.
    """
    number = single(plpy, memory, OID, ["text", "text"], [table.schema, table.name])
    if number is None:
        raise BadInput(f"label: there is no table {table.schema}.{table.name}", "schema and name: 'shop.contracts'")
    relation = describe(plpy, memory, number["oid"])
    columns = [name for name in table.columns if name is not None]
    table = table._replace(types=_types(plpy, memory, relation, table))
    _refuse_without_rights(plpy, memory, relation, columns)
    _refuse_feature_source(plpy, memory, relation, table, kinds)
    open_table(plpy, memory, table, kinds, zone)
    return table


def _types(plpy: Any, memory: dict[str, Any], relation: Relation, table: LabelTable) -> tuple[str | None, ...]:
    types = {row["name"]: row["type"] for row in run(plpy, memory, TYPES, ["bigint"], [relation.oid])}
    found = []
    for key, name in zip(COLUMNS, table.columns, strict=True):
        if name is not None and name not in types:
            there = f"{meant(name, list(types))} its columns: {', '.join(list(types)[:20])}".strip()
            raise BadInput(f"label: {relation.name} has no column {name!r}", there)
        if name is not None and types[name] not in FITS[key]:
            raise BadInput(
                f"label: column {name!r} of {relation.name}, the {key}, is {types[name]}",
                f"it has to be {', '.join(sorted(FITS[key]))}; a view can cast it",
            )
        found.append(None if name is None else types[name])
    return tuple(found)


def _refuse_without_rights(plpy: Any, memory: dict[str, Any], relation: Relation, columns: list[str]) -> None:
    caller, owner = run(plpy, memory, RIGHTS, ["bigint", "text[]"], [relation.oid, columns])
    if not (caller["of_schema"] and caller["of_relation"]):
        raise InstallError(
            f"label: role {caller['who']} may not read {relation.name}", "who defines a task must be able to"
        )
    if not (owner["of_schema"] and owner["of_relation"]):
        raise InstallError(f"label: role ubp_owner, which trains, may not read {relation.name}", _grants(relation))


def _grants(relation: Relation) -> str:
    return f"grant usage on schema {relation.schema} to ubp_owner; grant select on {relation.name} to ubp_owner"


def _refuse_feature_source(
    plpy: Any, memory: dict[str, Any], relation: Relation, table: LabelTable, kinds: Sequence[str]
) -> None:
    """A row that is a feature from one column's time on, and an outcome at another's, tells the outcome before it."""
    for row in run(plpy, memory, FEATURES_TOO, ["bigint"], [relation.oid]):
        text = row["kind"].removesuffix("::text")
        constant = text[1:-1].replace("''", "'") if text.startswith("'") else None
        if constant is not None and constant not in kinds:
            continue
        if row["same"] and row["event_time"] == plpy.quote_ident(table.time):
            continue
        raise BadInput(
            f"label: {relation.name} is read for features too, as source {row['name']} with the time "
            f"{row['event_time']}: its rows would tell the outcome before it happened",
            f"{EVENTS_DO}; or detach the source, or take a feature set without its kinds",
        )


def open_table(plpy: Any, memory: dict[str, Any], table: LabelTable, kinds: Sequence[str], zone: str) -> Read:
    """The table, ready to be read; kinds and zone as in `looked_at`.

    Raises SourceChanged (UB015) where it is not what the task was defined on, BadInput (UB003) where outcomes were
    known before they happened.
    """
    with _changed(plpy, table):
        rows = _rows(plpy, table, zone)
        # To parse the statement locks what it reads until the transaction ends, so that the looks hold.
        plan = plpy.prepare(READ.format(rows=rows, happened=HAPPENED), ["bigint", "bigint"])
        look = plpy.prepare(LOOK.format(rows=rows, happened=HAPPENED))
        number = run(plpy, memory, OID, ["text", "text"], [table.schema, table.name])[0]
        relation = describe(plpy, memory, number["oid"])
        for key, was, now in zip(COLUMNS, table.types, _types(plpy, memory, relation, table), strict=True):
            if was != now:
                raise BadInput(f"column {key} of {relation.name} was {was} and is {now}")
        _refuse_feature_source(plpy, memory, relation, table, kinds)
        found = look.execute()[0]
    if found["early"]:
        raise BadInput(
            f"label: {found['early']:,} of {found['n']:,} rows of {relation.name} were known before they happened "
            f"({table.known_at} before {table.time}): what is known at a cut is no outcome of it",
            "a view without them, or a known_at that says when the row was written",
        )
    return Read(plan, NOTHING_SEEN if found["seen_us"] is None else found["seen_us"])


@contextmanager
def _changed(plpy: Any, table: LabelTable) -> Iterator[None]:
    """What has become of the table, as SourceChanged."""
    name = f"{table.schema}.{table.name}"
    hint = f"define the task anew under another name; or mend the table, and grant select on {name} to ubp_owner"
    try:
        yield
    except UbpError as error:
        raise SourceChanged(f"the label's table {name}: {error.message.removeprefix('label: ')}", hint) from None
    except plpy.SPIError as error:
        if sqlstate(error) not in CODES:
            raise
        said = str(error).splitlines()[0]
        raise SourceChanged(f"the label's table {name} is gone, or may not be read: {said}", hint) from None


def _rows(plpy: Any, table: LabelTable, zone: str) -> str:
    user, time, _, known = table.types
    known_at = table.time if table.known_at is None else table.known_at
    by_key = user in TEXTS
    rows = ROWS.format(
        user=f"{plpy.quote_ident(table.user)}::{'text' if by_key else 'bigint'}",
        time=_moment(plpy, table.time, time, zone),
        value="null::double precision" if table.value is None else f"{plpy.quote_ident(table.value)}::double precision",
        known=_moment(plpy, known_at, time if table.known_at is None else known, zone),
        relation=f"{plpy.quote_ident(table.schema)}.{plpy.quote_ident(table.name)}",
    )
    return KEYS.format(rows=rows) if by_key else rows


def _moment(plpy: Any, name: str, kind: str | None, zone: str) -> str:
    column = plpy.quote_ident(name)
    if kind == "timestamp with time zone":
        return str(column)
    return f"{column}::timestamp at time zone {quoted(zone)}"


def outcomes_in(read: Read, user_id: "I64") -> "Outcomes":
    """The rows of some users (ascending), as outcomes of theirs."""
    import numpy as np

    from ubp_sql.features.events import POSTGRES_EPOCH_US
    from ubp_sql.features.labels import Outcomes

    plan = read.plan
    row = plan.execute([int(user_id[0]), int(user_id[-1])])[0]
    users = np.frombuffer(row["users"] or b"", ">i8").astype(np.int64)
    t_us = np.frombuffer(row["times"] or b"", ">i8").astype(np.int64) + POSTGRES_EPOCH_US
    value = np.frombuffer(row["values"] or b"", ">f8").astype(np.float64)
    place = np.minimum(user_id.searchsorted(users), len(user_id) - 1)
    known = user_id[place] == users
    first = np.searchsorted(place[known], np.arange(len(user_id) + 1))
    return Outcomes(first, t_us[known], value[known])
