"""ubp.features at a moment takes a feature set; what ubp.job_runs tells of training sets.

Locks: share update exclusive on ubp.job_runs, for a comment; two functions are dropped and made anew with the others.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Old and new side by side would make every call with two arguments ambiguous. The first one's body calls the second.
DROP_OLD = """
do $do$
begin
  if to_regprocedure('ubp.features(text, timestamptz)') is not null then
    drop function ubp.features(text, timestamptz);
  end if;
  if to_regprocedure('ubp.features(bigint, timestamptz)') is not null then
    drop function ubp.features(bigint, timestamptz);
  end if;
end
$do$"""
JOB = "refresh_features, score_users or training_set"
OLD_JOB = "refresh_features or score_users"


def upgrade() -> None:
    op.execute(DROP_OLD)
    op.alter_column("job_runs", "job", comment=JOB, schema="ubp")


def downgrade() -> None:
    """Functions go before the migrations are undone."""
    op.alter_column("job_runs", "job", comment=OLD_JOB, schema="ubp")
