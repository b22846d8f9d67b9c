"""Tables of schema `ubp`: the event log, the columnar mirror, users to be recomputed."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, OID

from ubp_sql.schema.base import NOW, TIME, column, identity, table

event_log = table(
    "event_log",
    "What statements did to ubp.events and ubp.item_attributes since the last fold: written by triggers, consumed"
    " by refreshes.",
    column("log_id", sa.BigInteger(), "number of the row", sa.Identity(always=False, start=1), nullable=False),
    column(
        "op",
        sa.Text(),
        "I: events came in; U: users' events changed or went; T: any may have; R: mirror lacks a column; "
        "A: attributes of items came, changed or went",
        nullable=False,
    ),
    column("min_id", sa.BigInteger(), "I: lowest event_id, or key of an attached source"),
    column("max_id", sa.BigInteger(), "I: highest, likewise"),
    column("min_time", TIME, "I: earliest event_time; A: earliest valid_from"),
    column("max_time", TIME, "I: latest event_time"),
    column("users", ARRAY(sa.BigInteger()), "whose events; NULL = of all whose event_id lies in the range"),
    column("logged_at", TIME, "when", nullable=False, server_default=sa.text("clock_timestamp()")),
    column("min_ingested", TIME, "A: earliest ingested_at"),
    column("items", ARRAY(sa.BigInteger()), "A: whose attributes; NULL = of any"),
    column(
        "origin",
        sa.Integer(),
        "0: ubp.events; else the attached source that it speaks of",
        nullable=False,
        server_default="0",
    ),
    column("keys", ARRAY(sa.Text()), "I, U: whose events, by the text keys of an attached source"),
)

mirror_state = table(
    "mirror_state",
    "One row: whether there is a mirror, and which.",
    column(
        "singleton",
        sa.Boolean(),
        "always true: one row",
        sa.CheckConstraint("singleton", name="singleton"),
        primary_key=True,
        server_default="true",
    ),
    column("enabled", sa.Boolean(), "false: the next fold builds none", nullable=False, server_default="true"),
    column("built", sa.Boolean(), "there is one", nullable=False, server_default="false"),
    column("version", sa.BigInteger(), "goes up with each change of it", nullable=False, server_default="0"),
    column("built_at", TIME, "when it was last built from all events"),
    column("folded_at", TIME, "when the event log was last folded in"),
    column("database", OID(), "database in which the next column was written; a copy of it has other numbers"),
    column("partitions", ARRAY(OID()), "partitions of ubp.events whose rows it holds"),
)

mirror_runs = table(
    "mirror_runs",
    "Sorted runs of the mirror: the oldest holds everybody, newer ones what came since.",
    identity("run_id", "number of the run"),
    column("place", sa.BigInteger(), "order of the runs, oldest first", nullable=False, unique=True),
    column("events", sa.BigInteger(), "events in it", nullable=False),
    column("users", sa.BigInteger(), "users in it", nullable=False),
    column(
        "unknown_sources",
        sa.Boolean(),
        "it holds events of a source without a row in ubp.sources: read by UTC's clock",
        nullable=False,
        server_default="false",
    ),
    column("made_by", sa.Text(), "build, fold or compact", nullable=False),
    column("made_at", TIME, "when", nullable=False, server_default=sa.text("clock_timestamp()")),
)

_PACKED = "little-endian, one code an event as forms says"
mirror_chunks = table(
    "mirror_chunks",
    "Events in packed columns, sorted by (user, time, ingested, id). Never updated, no number used twice.",
    identity("chunk_id", "number of the chunk"),
    column("run_id", sa.BigInteger(), "run", sa.ForeignKey("ubp.mirror_runs.run_id"), nullable=False),
    column("first_user", sa.BigInteger(), "lowest user", nullable=False),
    column("last_user", sa.BigInteger(), "highest user", nullable=False),
    column("part", sa.Integer(), "0, 1, 2, ... of one user whose events fill several chunks", nullable=False),
    column("n", sa.Integer(), "events", nullable=False),
    column("users", sa.Integer(), "users", nullable=False),
    column("min_us", sa.BigInteger(), "earliest event time, microseconds since 1970 UTC; NULL = no event"),
    column("max_us", sa.BigInteger(), "latest event time, likewise"),
    column("max_ingested_us", sa.BigInteger(), "latest ingestion, likewise"),
    column("complete", sa.Boolean(), "all entries void what older runs hold of the user; NULL: complete_users tells"),
    column("complete_users", BYTEA(), "uint8 a user: 1 = the entry voids older runs"),
    column("kind_all", sa.Integer(), "kind of all events; then there is no column kind"),
    column("offset_all", sa.Integer(), "offset_s of all events; then there is no column offset_s"),
    column(
        "forms",
        BYTEA(),
        "two int64 a column, t to offset_s, then extras: width in bytes + 256 x exponent; base",
        nullable=False,
    ),
    column("user_ids", BYTEA(), "int64 a user, ascending", nullable=False),
    column("firsts", BYTEA(), "int32 a user: place of the user's first event in the chunk", nullable=False),
    column("t", BYTEA(), f"event time, microseconds since 1970 UTC; {_PACKED}", nullable=False),
    column("ingested", BYTEA(), "likewise, when it became known; NULL = equal to t"),
    column("event_id", BYTEA(), "events.event_id", nullable=False),
    column("kind", BYTEA(), "ubp.mirror_kinds.code"),
    column("item", BYTEA(), "all ones, or -2^63 = missing; NULL = missing in all"),
    column("order_key", BYTEA(), "hash of the order id, else t; NULL = equal to t"),
    column("value", BYTEA(), "all ones, or NaN = missing; NULL = missing in all"),
    column("quantity", BYTEA(), "likewise"),
    column("duration_s", BYTEA(), "likewise"),
    column("offset_s", BYTEA(), "the source's clock less UTC, seconds"),
    column("extras", ARRAY(BYTEA()), "the columns of ubp.event_columns in their order; NULL = missing in all"),
    sa.Index(None, "run_id", "first_user", "part", unique=True),
)

mirror_kinds = table(
    "mirror_kinds",
    "Event kinds by the number that chunks hold.",
    column("code", sa.Integer(), "number", sa.Identity(always=False), primary_key=True),
    column("kind", sa.Text(), "events.kind", nullable=False, unique=True),
)

event_columns = table(
    "event_columns",
    "Keys of events.attributes, and attributes of items, that features can use as columns (ubp.define_event_column).",
    column("position", sa.Integer(), "place in mirror_chunks.extras", sa.Identity(always=False), primary_key=True),
    column("name", sa.Text(), "name in definitions of features", nullable=False, unique=True),
    column(
        "attribute", sa.Text(), "key in events.attributes, item_attributes.name, or a rule (* = any)", nullable=False
    ),
    column(
        "type",
        sa.Text(),
        "number; text: compared as a whole; words: a set of words",
        sa.CheckConstraint("type in ('number', 'text', 'words')", name="type"),
        nullable=False,
    ),
    column("created_at", TIME, "when", nullable=False, server_default=NOW),
    column(
        "of",
        sa.Text(),
        "event, item: the event's item, or flag: open findings about the event",
        sa.CheckConstraint("\"of\" in ('event', 'item', 'flag')", name="of"),
        nullable=False,
        server_default="event",
    ),
)

dirty_users = table(
    "dirty_users",
    "Users whose events changed since the set's rows were computed; a refresh computes and removes them.",
    column("feature_set_id", sa.Integer(), "set", primary_key=True, autoincrement=False),
    column("user_id", sa.BigInteger(), "user", primary_key=True, autoincrement=False),
)
