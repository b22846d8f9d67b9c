"""Tables of schema `ubp`: when rows expire, users whose events are yet to begin, refreshes that commit in steps."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BYTEA

from ubp_sql.schema.base import TIME, column, identity, table

expiries = table(
    "expiries",
    "When feature rows stop being right, in pieces by day; a row written since says another moment.",
    identity("expiry_id", "number"),
    column("feature_set_id", sa.Integer(), "set", nullable=False),
    column("day", sa.Integer(), "days since 1970 UTC of all moments; NULL = of any day"),
    column("users", BYTEA(), "users, as int64 in machine order", nullable=False),
    column(
        "valid_until",
        BYTEA(),
        "of each what his row said when it was written, microseconds since 1970 UTC, as int64",
        nullable=False,
    ),
    sa.Index(None, "feature_set_id", "day"),
)

awaited_users = table(
    "awaited_users",
    "Users whose events all lie after the set's as_of, or were learnt of after it: no feature row yet.",
    column("feature_set_id", sa.Integer(), "set", primary_key=True, autoincrement=False),
    column("user_id", sa.BigInteger(), "user", primary_key=True, autoincrement=False),
    column("valid_until", TIME, "up to this moment none of his events is known", nullable=False),
    sa.Index(None, "feature_set_id", "valid_until"),
)

refresh_jobs = table(
    "refresh_jobs",
    "Refreshes under way that commit between their steps: one a feature set, gone when it is finished.",
    column(
        "job_id",
        sa.BigInteger(),
        "its row of job_runs",
        sa.ForeignKey("ubp.job_runs.job_id"),
        primary_key=True,
        autoincrement=False,
    ),
    column(
        "feature_set_id",
        sa.Integer(),
        "set",
        sa.ForeignKey("ubp.feature_sets.feature_set_id"),
        nullable=False,
        unique=True,
    ),
    column("as_of", TIME, "moment it computes", nullable=False),
    column("everyone", sa.Boolean(), "whether users without a chunk lose their row", nullable=False),
    column("set_hash", sa.Text(), "feature_sets.hash when it began", nullable=False),
    column("based_on", TIME, "refreshed_at when it began"),
    column("users", sa.BigInteger(), "users to compute", nullable=False),
    column("seconds", sa.Double(), "worked so far", nullable=False, server_default="0"),
    column("events", sa.BigInteger(), "events read so far", nullable=False, server_default="0"),
    column(
        "stepped_at",
        TIME,
        "when somebody last took a step",
        nullable=False,
        server_default=sa.text("clock_timestamp()"),
    ),
)

refresh_chunks = table(
    "refresh_chunks",
    "Users of a refresh under way, in chunks, and what was computed for them: stored with the last step.",
    column(
        "job_id",
        sa.BigInteger(),
        "job",
        sa.ForeignKey("ubp.refresh_jobs.job_id"),
        primary_key=True,
        autoincrement=False,
    ),
    column("chunk", sa.Integer(), "1, 2, ...", primary_key=True, autoincrement=False),
    column("n", sa.Integer(), "users to compute", nullable=False),
    column("users", BYTEA(), "who, as the image of a bigint[]", nullable=False),
    column("done", sa.Boolean(), "whether the rest is filled", nullable=False, server_default="false"),
    column("user_ids", BYTEA(), "users with a row, as int64 in machine order"),
    column("features", BYTEA(), "float32, row by row"),
    column("anchors", BYTEA(), "float64, row by row"),
    column("valid_until", BYTEA(), "int64, microseconds since 1970"),
    column("awaited", BYTEA(), "users to await, as int64"),
    column("awaited_until", BYTEA(), "int64, microseconds since 1970"),
)
