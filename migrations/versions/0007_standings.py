"""What the population was like at the start of a day: percentile and item_popularity.

Locks: share row exclusive on ubp.feature_sets, for a foreign key of an empty table.

A downgrade drops what was recorded, which nothing can bring back: events may have come, changed or gone since. Sets
with such features stay; older code, which knows no such feature, refuses them (UB002) instead of computing others, for
it no longer finds a plan.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Older code that finds a plan computes by it, and would give the value in place of its percentile.
FORGET_PLANS = """
update ubp.feature_sets s set plan = null
 where exists (select from ubp.feature_definitions d
                where d.feature_set_id = s.feature_set_id and d.family in ('percentile', 'item_popularity'))"""


def upgrade() -> None:
    op.create_table(
        "standings",
        sa.Column("feature_set_id", sa.Integer(), autoincrement=False, nullable=False, comment="set"),
        sa.Column(
            "position", sa.Integer(), autoincrement=False, nullable=False, comment="feature_definitions.position"
        ),
        sa.Column("day", sa.Date(), nullable=False, comment="day in UTC: what had happened and was known at its start"),
        sa.Column(
            "n", sa.BigInteger(), nullable=False, comment="percentile: users with a value; item_popularity: events"
        ),
        sa.Column(
            "keys",
            postgresql.BYTEA(),
            nullable=False,
            comment="percentile: different values, float32; item_popularity: items, float64; ascending, little-endian",
        ),
        sa.Column(
            "results",
            postgresql.BYTEA(),
            nullable=False,
            comment="float32; percentile: below the first key, at it, between it and the next, ...; item_popularity:"
            " events a key",
        ),
        sa.Column(
            "recorded_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when it was written",
        ),
        sa.ForeignKeyConstraint(
            ["feature_set_id"],
            ["ubp.feature_sets.feature_set_id"],
            name=op.f("standings_feature_set_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("feature_set_id", "position", "day", name=op.f("standings_pkey")),
        schema="ubp",
        comment="What features that set a user beside all users go by: the population at the start of a UTC day,"
        " written once.",
    )
    # Numbers without a pattern: to compress them would only cost whoever reads them.
    op.execute("alter table ubp.standings alter column keys set storage external")
    op.execute("alter table ubp.standings alter column results set storage external")
    op.execute("grant select on ubp.standings to ubp_reader, ubp_auditor")


def downgrade() -> None:
    op.drop_table("standings", schema="ubp")
    op.execute(FORGET_PLANS)
