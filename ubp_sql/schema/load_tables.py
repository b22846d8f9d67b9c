"""Tables of schema `ubp`: parts of loads, and events that nobody in particular did."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import INT8RANGE, JSONB, REAL

from ubp_sql.schema.base import NOW, TIME, column, identity, table, tenant

load_parts = table(
    "load_parts",
    "Parts of loads, each committed with its rows: where a rerun, or a file that has grown, goes on.",
    column(
        "load_id", sa.BigInteger(), "load", sa.ForeignKey("ubp.loads.load_id"), primary_key=True, autoincrement=False
    ),
    column("part", sa.Integer(), "1, 2, ... within the load", primary_key=True, autoincrement=False),
    column("first_line", sa.BigInteger(), "its first line (Parquet: row) in the file", nullable=False),
    column("last_line", sa.BigInteger(), "its last", nullable=False),
    column(
        "position",
        sa.BigInteger(),
        "bytes of the decompressed content up to its end; Parquet: rows",
        nullable=False,
    ),
    column(
        "content_sha256", sa.Text(), "hash of the content up to its end; Parquet: of the whole file", nullable=False
    ),
    column("rows_read", sa.BigInteger(), "rows found in it", nullable=False),
    column("rows_loaded", sa.BigInteger(), "rows written, anonymous ones among them", nullable=False),
    column("rows_rejected", sa.BigInteger(), "rows that could not be used", nullable=False),
    column("rows_already", sa.BigInteger(), "rows whose keys were loaded before", nullable=False),
    column("rows_anonymous", sa.BigInteger(), "rows written to ubp.anonymous_events", nullable=False),
    column("all_read", sa.BigInteger(), "rows from the file's start to its end", nullable=False),
    column("all_loaded", sa.BigInteger(), "of them written", nullable=False),
    column("all_rejected", sa.BigInteger(), "of them not usable", nullable=False),
    column("all_already", sa.BigInteger(), "of them known by their keys", nullable=False),
    column("all_anonymous", sa.BigInteger(), "of them without a user", nullable=False),
    column("ids", INT8RANGE(), "event_id: all events of this source within are its rows", nullable=False),
    column("anonymous_ids", INT8RANGE(), "the same in ubp.anonymous_events", nullable=False),
    column("loaded_at", TIME, "when", nullable=False, server_default=NOW),
)

anonymous_events = table(
    "anonymous_events",
    "Loaded events without a user (anonymous: keep in a load map): counted for items only.",
    identity("event_id", "number of the event"),
    column("event_time", TIME, "when it happened", nullable=False, index=True),
    column("kind", sa.Text(), "what, as in ubp.events", nullable=False),
    column("item_id", sa.BigInteger(), "with which item"),
    column("value", sa.Double(), "worth in your currency; NaN counts as missing"),
    column("quantity", REAL(), "how many"),
    column("duration_s", REAL(), "how long, seconds"),
    column("attributes", JSONB(), "anything else"),
    column("ingested_at", TIME, "when the database learnt of it", nullable=False, server_default=NOW),
    column("source", sa.Integer(), "ubp.sources.source_id; 0 = plain INSERT", nullable=False, server_default="0"),
    tenant(),
    sa.CheckConstraint("event_time >= '1900-01-01 00:00+00' and event_time < '2300-01-01 00:00+00'", name="event_time"),
)
