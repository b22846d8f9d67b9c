"""Parts of loads, committed with their rows; events without a user.

Locks: access exclusive on ubp.loads and ubp.event_keys, for columns that rewrite nothing.

A downgrade drops events without a user and what is known of parts: a file that was killed half-way, or that has grown,
would then be loaded anew from its start.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TIME = sa.TIMESTAMP(timezone=True)
GRANTS = {
    "ubp_reader": {"select": "anonymous_events"},
    "ubp_loader": {
        "select": "load_parts, anonymous_events, events_event_id_seq, anonymous_events_event_id_seq, "
        "sources_source_id_seq",
        "update": "sources_source_id_seq",
        "insert": "load_parts, anonymous_events",
        "delete": "load_parts",
        "update (rows_anonymous)": "loads",
    },
    "ubp_auditor": {"select": "load_parts, anonymous_events"},
}
# Column: the comment now, and the one before.
COMMENTS = {
    "ubp.loads.content_sha256": (
        "hash of the decompressed content: the same content is loaded once",
        "hash of the file''s bytes: the same content is loaded once",
    ),
    "ubp.loads.finished_at": ("end of the load; NULL: it was broken off, a rerun goes on", "end of the load"),
}


def upgrade() -> None:
    op.create_table(
        "load_parts",
        sa.Column("load_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="load"),
        sa.Column("part", sa.Integer(), autoincrement=False, nullable=False, comment="1, 2, ... within the load"),
        sa.Column("first_line", sa.BigInteger(), nullable=False, comment="its first line (Parquet: row) in the file"),
        sa.Column("last_line", sa.BigInteger(), nullable=False, comment="its last"),
        sa.Column(
            "position",
            sa.BigInteger(),
            nullable=False,
            comment="bytes of the decompressed content up to its end; Parquet: rows",
        ),
        sa.Column(
            "content_sha256",
            sa.Text(),
            nullable=False,
            comment="hash of the content up to its end; Parquet: of the whole file",
        ),
        sa.Column("rows_read", sa.BigInteger(), nullable=False, comment="rows found in it"),
        sa.Column("rows_loaded", sa.BigInteger(), nullable=False, comment="rows written, anonymous ones among them"),
        sa.Column("rows_rejected", sa.BigInteger(), nullable=False, comment="rows that could not be used"),
        sa.Column("rows_already", sa.BigInteger(), nullable=False, comment="rows whose keys were loaded before"),
        sa.Column("rows_anonymous", sa.BigInteger(), nullable=False, comment="rows written to ubp.anonymous_events"),
        sa.Column("all_read", sa.BigInteger(), nullable=False, comment="rows from the file's start to its end"),
        sa.Column("all_loaded", sa.BigInteger(), nullable=False, comment="of them written"),
        sa.Column("all_rejected", sa.BigInteger(), nullable=False, comment="of them not usable"),
        sa.Column("all_already", sa.BigInteger(), nullable=False, comment="of them known by their keys"),
        sa.Column("all_anonymous", sa.BigInteger(), nullable=False, comment="of them without a user"),
        sa.Column(
            "ids",
            postgresql.INT8RANGE(),
            nullable=False,
            comment="event_id: all events of this source within are its rows",
        ),
        sa.Column("anonymous_ids", postgresql.INT8RANGE(), nullable=False, comment="the same in ubp.anonymous_events"),
        sa.Column("loaded_at", TIME, server_default=sa.text("now()"), nullable=False, comment="when"),
        sa.ForeignKeyConstraint(["load_id"], ["ubp.loads.load_id"], name=op.f("load_parts_load_id_fkey")),
        sa.PrimaryKeyConstraint("load_id", "part", name=op.f("load_parts_pkey")),
        schema="ubp",
        comment="Parts of loads, each committed with its rows: where a rerun, or a file that has grown, goes on.",
    )
    op.create_table(
        "anonymous_events",
        sa.Column(
            "event_id",
            sa.BigInteger(),
            sa.Identity(always=False, start=1),
            nullable=False,
            comment="number of the event",
        ),
        sa.Column("event_time", TIME, nullable=False, comment="when it happened"),
        sa.Column("kind", sa.Text(), nullable=False, comment="what, as in ubp.events"),
        sa.Column("item_id", sa.BigInteger(), nullable=True, comment="with which item"),
        sa.Column("value", sa.Double(), nullable=True, comment="worth in your currency; NaN counts as missing"),
        sa.Column("quantity", sa.REAL(), nullable=True, comment="how many"),
        sa.Column("duration_s", sa.REAL(), nullable=True, comment="how long, seconds"),
        sa.Column("attributes", postgresql.JSONB(astext_type=sa.Text()), nullable=True, comment="anything else"),
        sa.Column(
            "ingested_at",
            TIME,
            server_default=sa.text("now()"),
            nullable=False,
            comment="when the database learnt of it",
        ),
        sa.Column(
            "source",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="ubp.sources.source_id; 0 = plain INSERT",
        ),
        sa.Column(
            "tenant",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="owner of the row in a shared database; 0 = the only one",
        ),
        sa.CheckConstraint(
            "event_time >= '1900-01-01 00:00+00' and event_time < '2300-01-01 00:00+00'",
            name=op.f("anonymous_events_event_time_check"),
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("anonymous_events_pkey")),
        schema="ubp",
        comment="Loaded events without a user (anonymous: keep in a load map): counted for items only.",
    )
    op.create_index(
        op.f("anonymous_events_event_time_idx"), "anonymous_events", ["event_time"], unique=False, schema="ubp"
    )
    op.add_column(
        "loads",
        sa.Column(
            "rows_anonymous",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="of rows_loaded those without a user, in ubp.anonymous_events",
        ),
        schema="ubp",
    )
    op.add_column(
        "loads",
        sa.Column(
            "continues", sa.BigInteger(), nullable=True, comment="load of the file's beginning, behind which it went on"
        ),
        schema="ubp",
    )
    op.add_column(
        "event_keys",
        sa.Column("load_id", sa.BigInteger(), nullable=True, comment="load that brought it; NULL: an older release"),
        schema="ubp",
    )
    _comments(0)
    for role, rights in GRANTS.items():
        for right, tables in rights.items():
            names = ", ".join(f"ubp.{table.strip()}" for table in tables.split(","))
            op.execute(f"grant {right} on {names} to {role}")


def downgrade() -> None:
    _comments(1)
    op.execute("revoke select on ubp.events_event_id_seq from ubp_loader")
    op.execute("revoke select, update on ubp.sources_source_id_seq from ubp_loader")
    op.drop_column("event_keys", "load_id", schema="ubp")
    op.drop_column("loads", "continues", schema="ubp")
    op.drop_column("loads", "rows_anonymous", schema="ubp")
    op.drop_index(op.f("anonymous_events_event_time_idx"), table_name="anonymous_events", schema="ubp")
    op.drop_table("anonymous_events", schema="ubp")
    op.drop_table("load_parts", schema="ubp")


def _comments(which: int) -> None:
    for column, comments in COMMENTS.items():
        op.execute(f"comment on column {column} is '{comments[which]}'")
