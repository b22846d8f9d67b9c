"""Incremental refreshes: what ages is kept as anchors, rows know how long they hold, jobs commit between steps.

Locks: access exclusive on ubp.feature_rows, ubp.feature_sets and ubp.job_runs; no table is rewritten or read. The next
refresh of each set computes everybody.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# A new defaulted parameter makes an overload beside the old function, and every call ambiguous.
DROP_OLD = """
do $do$
begin
  if to_regprocedure('ubp.refresh_features(timestamptz, text)') is not null then
    drop function ubp.refresh_features(timestamptz, text);
  end if;
end
$do$"""
ROWS = "One row a user and feature set: the features at the row's as_of."
AS_OF = "moment of the values; features that age are finished at the set's as_of when they are read"
VALID = "the last moment up to which no event of the user enters or leaves a window"
JOBS = "Refreshes and scorings of everybody: when, by whom, how many rows."
STATE = "done, running or failed; one transaction that failed leaves no row"
# What they were.
OLD_ROWS = "One row a user and feature set: the features at the set's as_of, for people and packed for the scorer."
OLD_PACKED = "the same values as little-endian float32, which the scorer reads as they are"
OLD_AS_OF = "moment of the values"
OLD_VALID = "when an event of the user next crosses a window's edge; NULL = not known"
OLD_JOBS = "Refreshes and scorings of everybody that were done: when, by whom, how many rows."
OLD_STATE = "done: a run that failed leaves no row"
# The float32 values in little-endian order.
PACK = """
update ubp.feature_rows r
   set packed = (select coalesce(string_agg(substr(b, 4, 1) || substr(b, 3, 1) || substr(b, 2, 1) || substr(b, 1, 1), ''
                                            order by k), '')
                   from (select k, float4send(v) as b from unnest(r.features) with ordinality x (v, k)) y)"""


def upgrade() -> None:
    op.execute(DROP_OLD)
    op.add_column(
        "feature_rows",
        sa.Column(
            "anchors",
            postgresql.ARRAY(sa.Double()),
            nullable=True,
            comment="times and sums that ageing features are finished from; the set's plan says which",
        ),
        schema="ubp",
    )
    # A row is read whole at each score: in line and as it is, up to a page. Plain spares reading an element the copy
    # that a short header costs (a tenth to a third of a column's sum); the widest set's array still fits into a page.
    op.execute("alter table ubp.feature_rows alter column features set storage plain")
    op.execute("alter table ubp.feature_rows alter column anchors set storage external")
    op.execute("alter table ubp.feature_rows set (toast_tuple_target = 8160)")
    op.drop_column("feature_rows", "packed", schema="ubp")
    op.create_table(
        "expiries",
        sa.Column("expiry_id", sa.BigInteger(), sa.Identity(always=False, start=1), nullable=False, comment="number"),
        sa.Column("feature_set_id", sa.Integer(), nullable=False, comment="set"),
        sa.Column("day", sa.Integer(), nullable=True, comment="days since 1970 UTC of all moments; NULL = of any day"),
        sa.Column("users", postgresql.BYTEA(), nullable=False, comment="users, as int64 in machine order"),
        sa.Column(
            "valid_until",
            postgresql.BYTEA(),
            nullable=False,
            comment="of each what his row said when it was written, microseconds since 1970 UTC, as int64",
        ),
        sa.PrimaryKeyConstraint("expiry_id", name=op.f("expiries_pkey")),
        schema="ubp",
        comment="When feature rows stop being right, in pieces by day; a row written since says another moment.",
    )
    op.create_index(op.f("expiries_feature_set_id_day_idx"), "expiries", ["feature_set_id", "day"], schema="ubp")
    for column in ("users", "valid_until"):
        op.execute(f"alter table ubp.expiries alter column {column} set storage external")
    op.add_column(
        "feature_sets",
        sa.Column("as_of_us", sa.BigInteger(), nullable=True, comment="as_of in microseconds since 1970 UTC"),
        schema="ubp",
    )
    op.add_column(
        "feature_sets",
        sa.Column("as_of_weekday", sa.SmallInteger(), nullable=True, comment="as_of's local weekday, Monday 0"),
        schema="ubp",
    )
    op.create_table(
        "awaited_users",
        sa.Column("feature_set_id", sa.Integer(), autoincrement=False, nullable=False, comment="set"),
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="user"),
        sa.Column(
            "valid_until",
            sa.TIMESTAMP(timezone=True),
            nullable=False,
            comment="up to this moment none of his events is known",
        ),
        sa.PrimaryKeyConstraint("feature_set_id", "user_id", name=op.f("awaited_users_pkey")),
        schema="ubp",
        comment="Users whose events all lie after the set's as_of, or were learnt of after it: no feature row yet.",
    )
    op.create_index(
        op.f("awaited_users_feature_set_id_valid_until_idx"),
        "awaited_users",
        ["feature_set_id", "valid_until"],
        schema="ubp",
    )
    op.create_table(
        "refresh_jobs",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="its row of job_runs"),
        sa.Column("feature_set_id", sa.Integer(), nullable=False, comment="set"),
        sa.Column("as_of", sa.TIMESTAMP(timezone=True), nullable=False, comment="moment it computes"),
        sa.Column("everyone", sa.Boolean(), nullable=False, comment="whether users without a chunk lose their row"),
        sa.Column("set_hash", sa.Text(), nullable=False, comment="feature_sets.hash when it began"),
        sa.Column("based_on", sa.TIMESTAMP(timezone=True), nullable=True, comment="refreshed_at when it began"),
        sa.Column("users", sa.BigInteger(), nullable=False, comment="users to compute"),
        sa.Column("seconds", sa.Double(), server_default="0", nullable=False, comment="worked so far"),
        sa.Column("events", sa.BigInteger(), server_default="0", nullable=False, comment="events read so far"),
        sa.Column(
            "stepped_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when somebody last took a step",
        ),
        sa.ForeignKeyConstraint(
            ["feature_set_id"], ["ubp.feature_sets.feature_set_id"], name=op.f("refresh_jobs_feature_set_id_fkey")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["ubp.job_runs.job_id"], name=op.f("refresh_jobs_job_id_fkey")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("refresh_jobs_pkey")),
        sa.UniqueConstraint("feature_set_id", name=op.f("refresh_jobs_feature_set_id_key")),
        schema="ubp",
        comment="Refreshes under way that commit between their steps: one a feature set, gone when it is finished.",
    )
    op.create_table(
        "refresh_chunks",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="job"),
        sa.Column("chunk", sa.Integer(), autoincrement=False, nullable=False, comment="1, 2, ..."),
        sa.Column("n", sa.Integer(), nullable=False, comment="users to compute"),
        sa.Column("users", postgresql.BYTEA(), nullable=False, comment="who, as the image of a bigint[]"),
        sa.Column("done", sa.Boolean(), server_default="false", nullable=False, comment="whether the rest is filled"),
        sa.Column("user_ids", postgresql.BYTEA(), nullable=True, comment="users with a row, as int64 in machine order"),
        sa.Column("features", postgresql.BYTEA(), nullable=True, comment="float32, row by row"),
        sa.Column("anchors", postgresql.BYTEA(), nullable=True, comment="float64, row by row"),
        sa.Column("valid_until", postgresql.BYTEA(), nullable=True, comment="int64, microseconds since 1970"),
        sa.Column("awaited", postgresql.BYTEA(), nullable=True, comment="users to await, as int64"),
        sa.Column("awaited_until", postgresql.BYTEA(), nullable=True, comment="int64, microseconds since 1970"),
        sa.ForeignKeyConstraint(["job_id"], ["ubp.refresh_jobs.job_id"], name=op.f("refresh_chunks_job_id_fkey")),
        sa.PrimaryKeyConstraint("job_id", "chunk", name=op.f("refresh_chunks_pkey")),
        schema="ubp",
        comment="Users of a refresh under way, in chunks, and what was computed for them: stored with the last step.",
    )
    for column in ("users", "user_ids", "features", "anchors", "valid_until", "awaited", "awaited_until"):
        op.execute(f"alter table ubp.refresh_chunks alter column {column} set storage external")
    op.execute("grant select on ubp.awaited_users, ubp.expiries, ubp.refresh_jobs, ubp.refresh_chunks to ubp_auditor")
    # Rows there are have no anchors, and nothing tells when they expire.
    op.execute("update ubp.feature_sets set stale = true where as_of is not null")
    _comments(ROWS, AS_OF, VALID, JOBS, STATE)


def _comments(rows: str, as_of: str, valid: str, jobs: str, state: str) -> None:
    op.create_table_comment("feature_rows", rows, schema="ubp")
    op.alter_column("feature_rows", "as_of", comment=as_of, schema="ubp")
    op.alter_column("feature_rows", "valid_until", comment=valid, schema="ubp")
    op.create_table_comment("job_runs", jobs, schema="ubp")
    op.alter_column("job_runs", "state", comment=state, schema="ubp")


def downgrade() -> None:
    _comments(OLD_ROWS, OLD_AS_OF, OLD_VALID, OLD_JOBS, OLD_STATE)
    op.drop_table("expiries", schema="ubp")
    op.drop_table("refresh_chunks", schema="ubp")
    op.drop_table("refresh_jobs", schema="ubp")
    op.drop_table("awaited_users", schema="ubp")
    op.drop_column("feature_sets", "as_of_weekday", schema="ubp")
    op.drop_column("feature_sets", "as_of_us", schema="ubp")
    op.add_column(
        "feature_rows", sa.Column("packed", postgresql.BYTEA(), nullable=True, comment=OLD_PACKED), schema="ubp"
    )
    op.execute(PACK)
    op.alter_column("feature_rows", "packed", nullable=False, schema="ubp")
    op.execute("alter table ubp.feature_rows alter column packed set storage external")
    op.execute("alter table ubp.feature_rows reset (toast_tuple_target)")
    op.execute("alter table ubp.feature_rows alter column features set storage extended")
    op.drop_column("feature_rows", "anchors", schema="ubp")
