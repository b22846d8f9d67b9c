"""Tables of schema `ubp`: tables and views of others whose rows are events, and users that are several keys."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, OID

from ubp_sql.schema.base import NOW, TIME, column, table

attached_sources = table(
    "attached_sources",
    "Attached sources: relations of others whose rows are events where they lie (ubp.attach_source).",
    column(
        "source_id",
        sa.Integer(),
        "its row in ubp.sources",
        sa.ForeignKey("ubp.sources.source_id"),
        primary_key=True,
        autoincrement=False,
    ),
    column("schema_name", sa.Text(), "schema of the relation", nullable=False),
    column("relation_name", sa.Text(), "name of the relation", nullable=False),
    column("relation", OID(), "the relation itself, which keeps its number where it is renamed", nullable=False),
    column("database", OID(), "database of that number; a copy of the database has other ones", nullable=False),
    column("relkind", sa.Text(), "r: table; p: partitioned; v: view; m: materialized; f: foreign", nullable=False),
    column("user_key", sa.Text(), "expression of the user's key over the relation's columns", nullable=False),
    column("user_type", sa.Text(), "integer: the key is the user_id; text: ubp.users has it", nullable=False),
    column("event_time", sa.Text(), "expression, a timestamptz", nullable=False),
    column("kind", sa.Text(), "expression, a text", nullable=False),
    column("item_key", sa.Text(), "expression of the item's key"),
    column("item_type", sa.Text(), "integer: the key is the item_id; text: ubp.items has it"),
    column("value", sa.Text(), "expression, a double precision"),
    column("ingested_at", sa.Text(), "expression, a timestamptz; NULL = the event time"),
    column("event_key", sa.Text(), "expression that tells the source's events apart"),
    column(
        "key_type",
        sa.Text(),
        "integer: a bigint; text: a text, whose hash is the id; none: the hash of the row",
        nullable=False,
    ),
    column(
        "ascending",
        sa.Boolean(),
        "event_key is a column of integers with a unique index: inserts are logged as a range of it",
        nullable=False,
    ),
    column("filter", sa.Text(), "expression, a boolean; rows where it is not true are no events"),
    column("columns", JSONB(), "columns that the expressions read, with their types", nullable=False),
    column(
        "watermark",
        sa.Text(),
        "event_key, ingested_at or event_time: what tells new rows where no trigger can; NULL = triggers do",
    ),
    column("watermark_at", sa.BigInteger(), "up to where a fold has read: an id, or microseconds since 1970 UTC"),
    column("partitions", ARRAY(OID()), "partitions that a fold has read"),
    column("granted", JSONB(), "rights that attaching gave, which detaching takes back", nullable=False),
    column("attached_at", TIME, "when", nullable=False, server_default=NOW),
    column("attached_by", sa.Text(), "role", nullable=False, server_default=sa.text("session_user")),
    sa.CheckConstraint("user_type in ('integer', 'text')", name="user_type"),
    sa.CheckConstraint("item_type in ('integer', 'text')", name="item_type"),
    sa.CheckConstraint("key_type in ('integer', 'text', 'none')", name="key_type"),
    sa.CheckConstraint("watermark in ('event_key', 'ingested_at', 'event_time')", name="watermark"),
)

user_members = table(
    "user_members",
    "User ids that are another user's, by ubp.link_users: who is not here is himself.",
    column("member_id", sa.BigInteger(), "id that events have", primary_key=True, autoincrement=False),
    column("user_id", sa.BigInteger(), "whose they are", nullable=False, index=True),
)
