"""What items were said to be, from when on and since when known; event columns that are of the event's item.

Locks: access exclusive on ubp.event_columns and ubp.event_log, for columns that rewrite nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# As in 0005: old and new side by side would make a call with three arguments ambiguous.
DROP_OLD = """
do $do$
begin
  if to_regprocedure('ubp.define_event_column(text, text, text)') is not null then
    drop function ubp.define_event_column(text, text, text);
  end if;
end
$do$"""
# Whose events these are, the next fold finds out: a transaction that began before events came in may commit after these
# were folded, and what its trigger could have looked up would not have held them. Of more than 10,000 it names none.
LOG_ITEMS = """
create function ubp.log_item_attributes() returns trigger
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $plpgsql$
declare
  since timestamptz := '-infinity';
  known timestamptz := '-infinity';
  touched bigint[];
begin
  if tg_op = 'INSERT' then
    select min(valid_from), min(ingested_at) into since, known from fresh;
    touched := array(select distinct item_id from fresh limit 10001);
  elsif tg_op = 'UPDATE' then
    select least(o.since, n.since), least(o.known, n.known) into since, known
      from (select min(valid_from) as since, min(ingested_at) as known from gone) o,
           (select min(valid_from) as since, min(ingested_at) as known from fresh) n;
    touched := array(select item_id from gone union select item_id from fresh limit 10001);
  elsif tg_op = 'DELETE' then
    select min(valid_from), min(ingested_at) into since, known from gone;
    touched := array(select distinct item_id from gone limit 10001);
  end if;
  if known is not null then
    insert into ubp.event_log (op, min_time, min_ingested, items)
    values ('A', since, known, case when cardinality(touched) <= 10000 then touched end);
  end if;
  return null;
end
$plpgsql$"""
TRIGGERS = {
    "log_insert": "insert on ubp.item_attributes referencing new table as fresh",
    "log_update": "update on ubp.item_attributes referencing old table as gone new table as fresh",
    "log_delete": "delete on ubp.item_attributes referencing old table as gone",
    "log_truncate": "truncate on ubp.item_attributes",
}
OF_EVENTS = "I: events came in; U: users' events changed or went; T: any may have; R: mirror lacks a column"
# (table or column): the comment now, and the one before.
COMMENTS = {
    "table ubp.event_log": (
        "What statements did to ubp.events and ubp.item_attributes since the last fold: written by triggers, consumed"
        " by refreshes.",
        "What statements did to ubp.events since the last fold: written by triggers, consumed by refreshes.",
    ),
    "column ubp.event_log.op": (f"{OF_EVENTS}; A: attributes of items came, changed or went", OF_EVENTS),
    "column ubp.event_log.min_time": ("I: earliest event_time; A: earliest valid_from", "I: earliest event_time"),
    "table ubp.event_columns": (
        "Keys of events.attributes, and attributes of items, that features can use as columns"
        " (ubp.define_event_column).",
        "Keys of events.attributes that features can use as columns (ubp.define_event_column).",
    ),
    "column ubp.event_columns.attribute": (
        "key in events.attributes, or item_attributes.name",
        "key in events.attributes",
    ),
}
# Places among the declared columns are places in the mirror's chunks.
FORGET = """
with gone as (delete from ubp.event_columns where "of" = 'item' returning 1)
insert into ubp.event_log (op) select 'R' where exists (select from gone)"""


def upgrade() -> None:
    op.execute(DROP_OLD)
    op.create_table(
        "item_attributes",
        sa.Column("item_id", sa.BigInteger(), nullable=False, comment="which item"),
        sa.Column("name", sa.Text(), nullable=False, comment="name of the attribute"),
        sa.Column("value", sa.Double(), nullable=True, comment="number; NULL with text NULL = none from then on"),
        sa.Column("text", sa.Text(), nullable=True, comment="text; one that reads as a number counts as that too"),
        sa.Column(
            "valid_from",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="since when it holds; -infinity = always",
        ),
        sa.Column(
            "ingested_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when the database learnt of it: an event knows what had arrived by its own ingested_at",
        ),
        sa.PrimaryKeyConstraint("item_id", "name", "valid_from", "ingested_at", name=op.f("item_attributes_pkey")),
        schema="ubp",
        comment="What items were said to be: one row a statement, never overwritten; open to INSERT and COPY.",
    )
    op.add_column(
        "event_columns",
        sa.Column("of", sa.Text(), server_default="event", nullable=False, comment="event, or item: the event's item"),
        schema="ubp",
    )
    op.create_check_constraint(
        op.f("event_columns_of_check"), "event_columns", "\"of\" in ('event', 'item')", schema="ubp"
    )
    op.add_column(
        "event_log",
        sa.Column("min_ingested", sa.TIMESTAMP(timezone=True), nullable=True, comment="A: earliest ingested_at"),
        schema="ubp",
    )
    op.add_column(
        "event_log",
        sa.Column("items", sa.ARRAY(sa.BigInteger()), nullable=True, comment="A: whose attributes; NULL = of any"),
        schema="ubp",
    )
    _comments(0)
    op.execute(LOG_ITEMS)
    op.execute("revoke all on function ubp.log_item_attributes() from public")
    op.execute("comment on function ubp.log_item_attributes() is 'Logs of which items a statement changed attributes'")
    for name, when in TRIGGERS.items():
        op.execute(f"create trigger {name} after {when} for each statement execute function ubp.log_item_attributes()")
    op.execute("grant select on ubp.item_attributes to ubp_reader, ubp_auditor")
    op.execute("grant select, insert on ubp.item_attributes to ubp_loader")


def downgrade() -> None:
    op.drop_table("item_attributes", schema="ubp")
    op.execute("drop function ubp.log_item_attributes()")
    op.execute("delete from ubp.event_log where op = 'A'")
    op.execute(FORGET)
    _comments(1)
    op.drop_column("event_log", "items", schema="ubp")
    op.drop_column("event_log", "min_ingested", schema="ubp")
    op.drop_column("event_columns", "of", schema="ubp")


def _comments(which: int) -> None:
    for what, comments in COMMENTS.items():
        text = comments[which].replace("'", "''")
        op.execute(f"comment on {what} is '{text}'")
