"""Attached sources: relations of others whose rows are events, and what the event log says of them; linked users.

Locks: access exclusive on ubp.event_log, for columns that rewrite nothing.

A downgrade detaches all sources. Rights that attaching gave ubp_owner and ubp_reader stay: ubp.detach_source, called
before, takes them back.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TIME = sa.TIMESTAMP(timezone=True)
GRANTS = {
    "ubp_reader": "attached_sources, user_members",
    "ubp_loader": "attached_sources, user_members",
    "ubp_analyst": "user_members",
    "ubp_auditor": "attached_sources, user_members",
}
# (table or column): the comment now, and the one before.
COMMENTS = {
    "table ubp.sources": (
        "Where events come from: one row a loaded feed or attached relation; source 0 is plain INSERT and COPY.",
        "Where events come from: one row a loaded feed; source 0 is plain INSERT and COPY.",
    ),
    "column ubp.sources.kind": ("direct, file or attached", "direct or file"),
    "column ubp.sources.map": (
        "the load map last used, or what ubp.attach_source was given",
        "the load map last used",
    ),
    "column ubp.event_log.min_id": ("I: lowest event_id, or key of an attached source", "I: lowest event_id"),
    "column ubp.event_log.max_id": ("I: highest, likewise", "I: highest event_id"),
}

# Their triggers go with them, whoever owns the tables.
DROP_FUNCTIONS = """
do $do$
declare
  names text;
begin
  select pg_catalog.string_agg(p.oid::pg_catalog.regprocedure::text, ', ') into names from pg_catalog.pg_proc p
   where p.pronamespace = 'ubp'::pg_catalog.regnamespace
     and pg_catalog.pg_get_userbyid(p.proowner) in ('ubp_owner', 'ubp_listener')
     and p.prorettype = 'trigger'::pg_catalog.regtype and p.proname ~ '^source_[0-9]+_[a-z]+$';
  if names is not null then
    execute 'drop function ' || names || ' cascade';
  end if;
end
$do$"""


def upgrade() -> None:
    op.create_table(
        "attached_sources",
        sa.Column("source_id", sa.Integer(), autoincrement=False, nullable=False, comment="its row in ubp.sources"),
        sa.Column("schema_name", sa.Text(), nullable=False, comment="schema of the relation"),
        sa.Column("relation_name", sa.Text(), nullable=False, comment="name of the relation"),
        sa.Column(
            "relation",
            postgresql.OID(),
            nullable=False,
            comment="the relation itself, which keeps its number where it is renamed",
        ),
        sa.Column(
            "database",
            postgresql.OID(),
            nullable=False,
            comment="database of that number; a copy of the database has other ones",
        ),
        sa.Column(
            "relkind",
            sa.Text(),
            nullable=False,
            comment="r: table; p: partitioned; v: view; m: materialized; f: foreign",
        ),
        sa.Column(
            "user_key", sa.Text(), nullable=False, comment="expression of the user's key over the relation's columns"
        ),
        sa.Column(
            "user_type", sa.Text(), nullable=False, comment="integer: the key is the user_id; text: ubp.users has it"
        ),
        sa.Column("event_time", sa.Text(), nullable=False, comment="expression, a timestamptz"),
        sa.Column("kind", sa.Text(), nullable=False, comment="expression, a text"),
        sa.Column("item_key", sa.Text(), nullable=True, comment="expression of the item's key"),
        sa.Column(
            "item_type", sa.Text(), nullable=True, comment="integer: the key is the item_id; text: ubp.items has it"
        ),
        sa.Column("value", sa.Text(), nullable=True, comment="expression, a double precision"),
        sa.Column("ingested_at", sa.Text(), nullable=True, comment="expression, a timestamptz; NULL = the event time"),
        sa.Column("event_key", sa.Text(), nullable=True, comment="expression that tells the source's events apart"),
        sa.Column(
            "key_type",
            sa.Text(),
            nullable=False,
            comment="integer: a bigint; text: a text, whose hash is the id; none: the hash of the row",
        ),
        sa.Column(
            "ascending",
            sa.Boolean(),
            nullable=False,
            comment="event_key is a column of integers with a unique index: inserts are logged as a range of it",
        ),
        sa.Column(
            "filter", sa.Text(), nullable=True, comment="expression, a boolean; rows where it is not true are no events"
        ),
        sa.Column(
            "columns",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="columns that the expressions read, with their types",
        ),
        sa.Column(
            "watermark",
            sa.Text(),
            nullable=True,
            comment="event_key, ingested_at or event_time: what tells new rows where no trigger can; "
            "NULL = triggers do",
        ),
        sa.Column(
            "watermark_at",
            sa.BigInteger(),
            nullable=True,
            comment="up to where a fold has read: an id, or microseconds since 1970 UTC",
        ),
        sa.Column(
            "partitions", postgresql.ARRAY(postgresql.OID()), nullable=True, comment="partitions that a fold has read"
        ),
        sa.Column(
            "granted",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="rights that attaching gave, which detaching takes back",
        ),
        sa.Column("attached_at", TIME, server_default=sa.text("now()"), nullable=False, comment="when"),
        sa.Column("attached_by", sa.Text(), server_default=sa.text("session_user"), nullable=False, comment="role"),
        sa.CheckConstraint("user_type in ('integer', 'text')", name=op.f("attached_sources_user_type_check")),
        sa.CheckConstraint("item_type in ('integer', 'text')", name=op.f("attached_sources_item_type_check")),
        sa.CheckConstraint("key_type in ('integer', 'text', 'none')", name=op.f("attached_sources_key_type_check")),
        sa.CheckConstraint(
            "watermark in ('event_key', 'ingested_at', 'event_time')", name=op.f("attached_sources_watermark_check")
        ),
        sa.ForeignKeyConstraint(["source_id"], ["ubp.sources.source_id"], name=op.f("attached_sources_source_id_fkey")),
        sa.PrimaryKeyConstraint("source_id", name=op.f("attached_sources_pkey")),
        schema="ubp",
        comment="Attached sources: relations of others whose rows are events where they lie (ubp.attach_source).",
    )
    op.create_table(
        "user_members",
        sa.Column("member_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="id that events have"),
        sa.Column("user_id", sa.BigInteger(), nullable=False, comment="whose they are"),
        sa.PrimaryKeyConstraint("member_id", name=op.f("user_members_pkey")),
        schema="ubp",
        comment="User ids that are another user's, by ubp.link_users: who is not here is himself.",
    )
    op.create_index(op.f("user_members_user_id_idx"), "user_members", ["user_id"], unique=False, schema="ubp")
    op.add_column(
        "event_log",
        sa.Column(
            "origin",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="0: ubp.events; else the attached source that it speaks of",
        ),
        schema="ubp",
    )
    op.add_column(
        "event_log",
        sa.Column(
            "keys",
            postgresql.ARRAY(sa.Text()),
            nullable=True,
            comment="I, U: whose events, by the text keys of an attached source",
        ),
        schema="ubp",
    )
    # Nothing reads the log by number, and the index was a quarter of what a row cost: single INSERTs wait for that.
    # Where all tables are published, who deletes rows needs a replica identity.
    op.drop_constraint("event_log_pkey", "event_log", schema="ubp")
    op.execute("alter table ubp.event_log replica identity full")
    # To compress the users of 1,000 rows took as long as a fifth of their INSERT.
    op.execute("alter table ubp.event_log alter column users set storage external")
    op.execute("alter table ubp.event_log alter column keys set storage external")
    for what, (now, _) in COMMENTS.items():
        op.execute(f"comment on {what} is '{now}'")
    for role, tables in GRANTS.items():
        names = ", ".join(f"ubp.{table.strip()}" for table in tables.split(","))
        op.execute(f"grant select on {names} to {role}")
    op.execute("grant usage on schema ubp to ubp_listener")
    op.execute("grant insert on ubp.event_log to ubp_listener")


def downgrade() -> None:
    op.execute(DROP_FUNCTIONS)
    op.execute("revoke insert on ubp.event_log from ubp_listener")
    op.execute("revoke usage on schema ubp from ubp_listener")
    for what, (_, before) in COMMENTS.items():
        op.execute(f"comment on {what} is '{before}'")
    op.execute("delete from ubp.event_log where origin <> 0 or keys is not null")
    op.execute("alter table ubp.event_log alter column users set storage extended")
    op.execute("alter table ubp.event_log replica identity default")
    op.create_primary_key("event_log_pkey", "event_log", ["log_id"], schema="ubp")
    op.drop_column("event_log", "keys", schema="ubp")
    op.drop_column("event_log", "origin", schema="ubp")
    op.drop_index(op.f("user_members_user_id_idx"), table_name="user_members", schema="ubp")
    op.drop_table("user_members", schema="ubp")
    op.drop_table("attached_sources", schema="ubp")
    op.execute("delete from ubp.sources where kind = 'attached'")
