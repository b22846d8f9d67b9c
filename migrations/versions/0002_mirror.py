"""The event log, the columnar mirror of the events, and the triggers that keep both in step with ubp.events.

Locks: share row exclusive on ubp.events, its partitions and ubp.sources (writers wait) while triggers are made; access
exclusive on ubp.feature_sets for one column.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

GRANTS = {
    "ubp_reader": "event_log, mirror_state, mirror_runs, mirror_chunks, mirror_kinds, event_columns",
    "ubp_auditor": "event_log, mirror_state, mirror_runs, mirror_chunks, mirror_kinds, event_columns, dirty_users",
}
PACKED = (
    "user_ids firsts complete_users t ingested event_id kind item order_key value quantity duration_s offset_s extras"
)
# One pass over the rows of the statement. Ids that lie close together are logged as their range: an array of users
# costs as much as the insert itself. A range that others' ids lie in too is read with them, which changes nothing.
LOG_INSERT = """
create function ubp.log_event_insert() returns trigger
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $plpgsql$
declare
  found record;
begin
  select count(*) as n, min(event_id) as min_id, max(event_id) as max_id,
         min(event_time) as min_time, max(event_time) as max_time into found from fresh;
  if found.n > 0 then
    insert into ubp.event_log (op, min_id, max_id, min_time, max_time, users)
    values ('I', found.min_id, found.max_id, found.min_time, found.max_time,
            case when found.max_id::numeric - found.min_id > found.n * 4 + 1000
                 then array(select distinct user_id from fresh) end);
  end if;
  return null;
end
$plpgsql$"""
# Users of a statement that touches more than these are not told apart: everybody is computed anew.
MOST_USERS = 1_000_000
LOG_USERS = """
create function ubp.{name}() returns trigger
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $plpgsql$
declare
  touched bigint[];
begin
  touched := array({users});
  if cardinality(touched) > {most} then
    insert into ubp.event_log (op) values ('T');
  elsif cardinality(touched) > 0 then
    insert into ubp.event_log (op, users) values ('U', touched);
  end if;
  return null;
end
$plpgsql$"""
USERS = {
    "log_event_update": "select user_id from gone union select user_id from fresh",
    "log_event_delete": "select distinct user_id from gone",
}
LOG_TRUNCATE = """
create function ubp.log_event_truncate() returns trigger
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $plpgsql$
begin
  insert into ubp.event_log (op) values ('T');
  return null;
end
$plpgsql$"""
# The mirror holds each event's offset from UTC. A source that is new changes it for events that named it before.
LOG_SOURCE = """
create function ubp.log_source_zone() returns trigger
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $plpgsql$
begin
  if (case tg_op
       when 'UPDATE' then new.time_zone <> old.time_zone or new.source_id <> old.source_id
       when 'DELETE' then old.time_zone <> 'UTC'
       else new.time_zone <> 'UTC' and (exists (select from ubp.mirror_runs r where r.unknown_sources)
                                        or not exists (select from ubp.mirror_state s where s.built))
     end) then
    insert into ubp.event_log (op) values ('T');
  end if;
  return null;
end
$plpgsql$"""
FUNCTIONS = ("log_event_insert", *USERS, "log_event_truncate", "log_source_zone")
# Statement triggers fire for the table that a statement names: the whole, or one of its parts.
WATCH = """
do $do$
declare
  part regclass;
begin
  for part in select t.relid from pg_catalog.pg_partition_tree('ubp.events') t order by t.relid loop
    execute 'create trigger log_insert after insert on ' || part || ' referencing new table as fresh '
      'for each statement execute function ubp.log_event_insert()';
    execute 'create trigger log_update after update on ' || part || ' referencing old table as gone '
      'new table as fresh for each statement execute function ubp.log_event_update()';
    execute 'create trigger log_delete after delete on ' || part || ' referencing old table as gone '
      'for each statement execute function ubp.log_event_delete()';
    execute 'create trigger log_truncate after truncate on ' || part ||
      ' for each statement execute function ubp.log_event_truncate()';
  end loop;
end
$do$"""
UNWATCH = """
do $do$
declare
  part record;
begin
  for part in select t.tgrelid::regclass as relation, pg_catalog.quote_ident(t.tgname) as tgname
                from pg_catalog.pg_trigger t
               where t.tgfoid in (select p.oid from pg_catalog.pg_proc p where p.pronamespace = 'ubp'::regnamespace
                                     and p.prorettype = 'trigger'::regtype)
               order by t.oid loop
    execute 'drop trigger ' || part.tgname || ' on ' || part.relation;
  end loop;
end
$do$"""


def upgrade() -> None:
    op.create_table(
        "event_log",
        sa.Column(
            "log_id", sa.BigInteger(), sa.Identity(always=False, start=1), nullable=False, comment="number of the row"
        ),
        sa.Column(
            "op",
            sa.Text(),
            nullable=False,
            comment="I: events came in; U: users' events changed or went; T: any may have; R: mirror lacks a column",
        ),
        sa.Column("min_id", sa.BigInteger(), nullable=True, comment="I: lowest event_id"),
        sa.Column("max_id", sa.BigInteger(), nullable=True, comment="I: highest event_id"),
        sa.Column("min_time", sa.TIMESTAMP(timezone=True), nullable=True, comment="I: earliest event_time"),
        sa.Column("max_time", sa.TIMESTAMP(timezone=True), nullable=True, comment="I: latest event_time"),
        sa.Column(
            "users",
            postgresql.ARRAY(sa.BigInteger()),
            nullable=True,
            comment="whose events; NULL = of all whose event_id lies in the range",
        ),
        sa.Column(
            "logged_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when",
        ),
        sa.PrimaryKeyConstraint("log_id", name=op.f("event_log_pkey")),
        schema="ubp",
        comment="What statements did to ubp.events since the last fold: written by triggers, consumed by refreshes.",
    )
    op.create_table(
        "mirror_state",
        sa.Column("singleton", sa.Boolean(), server_default="true", nullable=False, comment="always true: one row"),
        sa.Column(
            "enabled", sa.Boolean(), server_default="true", nullable=False, comment="false: the next fold builds none"
        ),
        sa.Column("built", sa.Boolean(), server_default="false", nullable=False, comment="there is one"),
        sa.Column(
            "version", sa.BigInteger(), server_default="0", nullable=False, comment="goes up with each change of it"
        ),
        sa.Column(
            "built_at", sa.TIMESTAMP(timezone=True), nullable=True, comment="when it was last built from all events"
        ),
        sa.Column(
            "folded_at", sa.TIMESTAMP(timezone=True), nullable=True, comment="when the event log was last folded in"
        ),
        sa.Column(
            "database",
            postgresql.OID(),
            nullable=True,
            comment="database in which the next column was written; a copy of it has other numbers",
        ),
        sa.Column(
            "partitions",
            postgresql.ARRAY(postgresql.OID()),
            nullable=True,
            comment="partitions of ubp.events whose rows it holds",
        ),
        sa.PrimaryKeyConstraint("singleton", name=op.f("mirror_state_pkey")),
        schema="ubp",
        comment="One row: whether there is a mirror, and which.",
    )
    op.create_table(
        "mirror_runs",
        sa.Column(
            "run_id", sa.BigInteger(), sa.Identity(always=False, start=1), nullable=False, comment="number of the run"
        ),
        sa.Column("place", sa.BigInteger(), nullable=False, comment="order of the runs, oldest first"),
        sa.Column("events", sa.BigInteger(), nullable=False, comment="events in it"),
        sa.Column("users", sa.BigInteger(), nullable=False, comment="users in it"),
        sa.Column(
            "unknown_sources",
            sa.Boolean(),
            server_default="false",
            nullable=False,
            comment="it holds events of a source without a row in ubp.sources: read by UTC's clock",
        ),
        sa.Column("made_by", sa.Text(), nullable=False, comment="build, fold or compact"),
        sa.Column(
            "made_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when",
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("mirror_runs_pkey")),
        sa.UniqueConstraint("place", name=op.f("mirror_runs_place_key")),
        schema="ubp",
        comment="Sorted runs of the mirror: the oldest holds everybody, newer ones what came since.",
    )
    op.create_table(
        "mirror_chunks",
        sa.Column(
            "chunk_id",
            sa.BigInteger(),
            sa.Identity(always=False, start=1),
            nullable=False,
            comment="number of the chunk",
        ),
        sa.Column("run_id", sa.BigInteger(), nullable=False, comment="run"),
        sa.Column("first_user", sa.BigInteger(), nullable=False, comment="lowest user"),
        sa.Column("last_user", sa.BigInteger(), nullable=False, comment="highest user"),
        sa.Column(
            "part", sa.Integer(), nullable=False, comment="0, 1, 2, ... of one user whose events fill several chunks"
        ),
        sa.Column("n", sa.Integer(), nullable=False, comment="events"),
        sa.Column("users", sa.Integer(), nullable=False, comment="users"),
        sa.Column(
            "min_us",
            sa.BigInteger(),
            nullable=True,
            comment="earliest event time, microseconds since 1970 UTC; NULL = no event",
        ),
        sa.Column("max_us", sa.BigInteger(), nullable=True, comment="latest event time, likewise"),
        sa.Column("max_ingested_us", sa.BigInteger(), nullable=True, comment="latest ingestion, likewise"),
        sa.Column(
            "complete",
            sa.Boolean(),
            nullable=True,
            comment="all entries void what older runs hold of the user; NULL: complete_users tells",
        ),
        sa.Column(
            "complete_users", postgresql.BYTEA(), nullable=True, comment="uint8 a user: 1 = the entry voids older runs"
        ),
        sa.Column("kind_all", sa.Integer(), nullable=True, comment="kind of all events; then there is no column kind"),
        sa.Column(
            "offset_all",
            sa.Integer(),
            nullable=True,
            comment="offset_s of all events; then there is no column offset_s",
        ),
        sa.Column(
            "forms",
            postgresql.BYTEA(),
            nullable=False,
            comment="two int64 a column, t to offset_s, then extras: width in bytes + 256 x exponent; base",
        ),
        sa.Column("user_ids", postgresql.BYTEA(), nullable=False, comment="int64 a user, ascending"),
        sa.Column(
            "firsts",
            postgresql.BYTEA(),
            nullable=False,
            comment="int32 a user: place of the user's first event in the chunk",
        ),
        sa.Column(
            "t",
            postgresql.BYTEA(),
            nullable=False,
            comment="event time, microseconds since 1970 UTC; little-endian, one code an event as forms says",
        ),
        sa.Column(
            "ingested",
            postgresql.BYTEA(),
            nullable=True,
            comment="likewise, when it became known; NULL = equal to t",
        ),
        sa.Column("event_id", postgresql.BYTEA(), nullable=False, comment="events.event_id"),
        sa.Column("kind", postgresql.BYTEA(), nullable=True, comment="ubp.mirror_kinds.code"),
        sa.Column(
            "item", postgresql.BYTEA(), nullable=True, comment="all ones, or -2^63 = missing; NULL = missing in all"
        ),
        sa.Column(
            "order_key",
            postgresql.BYTEA(),
            nullable=True,
            comment="hash of the order id, else t; NULL = equal to t",
        ),
        sa.Column(
            "value", postgresql.BYTEA(), nullable=True, comment="all ones, or NaN = missing; NULL = missing in all"
        ),
        sa.Column("quantity", postgresql.BYTEA(), nullable=True, comment="likewise"),
        sa.Column("duration_s", postgresql.BYTEA(), nullable=True, comment="likewise"),
        sa.Column("offset_s", postgresql.BYTEA(), nullable=True, comment="the source's clock less UTC, seconds"),
        sa.Column(
            "extras",
            postgresql.ARRAY(postgresql.BYTEA()),
            nullable=True,
            comment="the columns of ubp.event_columns in their order; NULL = missing in all",
        ),
        sa.ForeignKeyConstraint(["run_id"], ["ubp.mirror_runs.run_id"], name=op.f("mirror_chunks_run_id_fkey")),
        sa.PrimaryKeyConstraint("chunk_id", name=op.f("mirror_chunks_pkey")),
        schema="ubp",
        comment="Events in packed columns, sorted by (user, time, ingested, id). Never updated, no number used twice.",
    )
    op.create_index(
        op.f("mirror_chunks_run_id_first_user_part_idx"),
        "mirror_chunks",
        ["run_id", "first_user", "part"],
        unique=True,
        schema="ubp",
    )
    op.create_table(
        "mirror_kinds",
        sa.Column("code", sa.Integer(), sa.Identity(always=False), nullable=False, comment="number"),
        sa.Column("kind", sa.Text(), nullable=False, comment="events.kind"),
        sa.PrimaryKeyConstraint("code", name=op.f("mirror_kinds_pkey")),
        sa.UniqueConstraint("kind", name=op.f("mirror_kinds_kind_key")),
        schema="ubp",
        comment="Event kinds by the number that chunks hold.",
    )
    op.create_table(
        "event_columns",
        sa.Column(
            "position", sa.Integer(), sa.Identity(always=False), nullable=False, comment="place in mirror_chunks.extras"
        ),
        sa.Column("name", sa.Text(), nullable=False, comment="name in definitions of features"),
        sa.Column("attribute", sa.Text(), nullable=False, comment="key in events.attributes"),
        sa.Column(
            "type", sa.Text(), nullable=False, comment="number; text: compared as a whole; words: a set of words"
        ),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when"
        ),
        sa.PrimaryKeyConstraint("position", name=op.f("event_columns_pkey")),
        sa.UniqueConstraint("name", name=op.f("event_columns_name_key")),
        schema="ubp",
        comment="Keys of events.attributes that features can use as columns (ubp.define_event_column).",
    )
    op.create_table(
        "dirty_users",
        sa.Column("feature_set_id", sa.Integer(), autoincrement=False, nullable=False, comment="set"),
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="user"),
        sa.PrimaryKeyConstraint("feature_set_id", "user_id", name=op.f("dirty_users_pkey")),
        schema="ubp",
        comment="Users whose events changed since the set's rows were computed; a refresh computes and removes them.",
    )
    op.add_column(
        "feature_sets",
        sa.Column(
            "stale",
            sa.Boolean(),
            server_default="true",
            nullable=False,
            comment="the next refresh computes everybody",
        ),
        schema="ubp",
    )
    op.execute("insert into ubp.mirror_state default values")
    # Compression would cost CPU at every read, and slices of a compressed value cannot be read alone.
    for column in PACKED.split():
        op.execute(f"alter table ubp.mirror_chunks alter column {column} set storage external")
    # Read beside each slice of a column: best in the row itself.
    op.execute("alter table ubp.mirror_chunks alter column forms set storage main")
    op.execute(LOG_INSERT)
    for name, users in USERS.items():
        op.execute(LOG_USERS.format(name=name, users=users, most=MOST_USERS))
    op.execute(LOG_TRUNCATE)
    op.execute(LOG_SOURCE)
    for name in FUNCTIONS:
        op.execute(f"revoke all on function ubp.{name}() from public")
    op.execute("comment on function ubp.log_event_insert() is 'Logs which events a statement inserted'")
    op.execute("comment on function ubp.log_event_update() is 'Logs whose events a statement changed'")
    op.execute("comment on function ubp.log_event_delete() is 'Logs whose events a statement deleted'")
    op.execute("comment on function ubp.log_event_truncate() is 'Logs that any event may be gone'")
    op.execute("comment on function ubp.log_source_zone() is 'Logs that the clock of events changed'")
    op.execute(WATCH)
    op.execute(
        "create trigger log_zone after insert or delete or update of time_zone, source_id on ubp.sources "
        "for each row execute function ubp.log_source_zone()"
    )
    for role, tables in GRANTS.items():
        names = ", ".join(f"ubp.{table.strip()}" for table in tables.split(","))
        op.execute(f"grant select on {names} to {role}")


def downgrade() -> None:
    op.execute(UNWATCH)
    for name in FUNCTIONS:
        op.execute(f"drop function ubp.{name}()")
    op.drop_column("feature_sets", "stale", schema="ubp")
    op.drop_table("dirty_users", schema="ubp")
    op.drop_table("event_columns", schema="ubp")
    op.drop_table("mirror_kinds", schema="ubp")
    op.drop_index(op.f("mirror_chunks_run_id_first_user_part_idx"), table_name="mirror_chunks", schema="ubp")
    op.drop_table("mirror_chunks", schema="ubp")
    op.drop_table("mirror_runs", schema="ubp")
    op.drop_table("mirror_state", schema="ubp")
    op.drop_table("event_log", schema="ubp")
