"""Stored scores: a narrow row a user, changed in place, and once a version what all its rows have in common.

Locks: access exclusive on ubp.task_definitions, which gets a number a task, and on ubp.user_scores, whose rows are
copied (1.5 s a million). The name goes to a view of the same columns, less `tenant`; ubp.shadow_report, which reads
it, is made anew with the functions. A view of somebody else's on ubp.user_scores stops the migration.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TIME = sa.TIMESTAMP(timezone=True)
DROP_OLD = """
do $do$
begin
  if to_regclass('ubp.shadow_report') is not null then
    drop view ubp.shadow_report;
  end if;
end
$do$"""
COPY_RUNS = """
insert into ubp.score_runs (task_id, version, users, as_of, scored_at)
select t.task_id, s.version, count(*), max(s.as_of), max(s.scored_at)
  from ubp.user_scores s join ubp.task_definitions t using (task) group by t.task_id, s.version"""
COPY_ROWS = """
insert into ubp.score_rows (task_id, version, user_id, score, percentile, reason)
select t.task_id, s.version, s.user_id, s.score, s.percentile, s.reason
  from ubp.user_scores s join ubp.task_definitions t using (task) order by t.task_id, s.user_id"""
COPY_BACK = """
insert into ubp.user_scores (task, user_id, score, percentile, reason, version, as_of, scored_at)
select t.task, r.user_id, r.score, r.percentile, r.reason, r.version, s.as_of, s.scored_at
  from ubp.score_rows r
  join ubp.score_runs s using (task_id, version)
  join ubp.task_definitions t using (task_id)"""


def upgrade() -> None:
    op.execute(DROP_OLD)
    op.add_column(
        "task_definitions",
        sa.Column(
            "task_id",
            sa.Integer(),
            sa.Identity(always=False),
            nullable=False,
            comment="number of the task, in its stored scores",
        ),
        schema="ubp",
    )
    op.create_unique_constraint(op.f("task_definitions_task_id_key"), "task_definitions", ["task_id"], schema="ubp")
    op.create_table(
        "score_rows",
        sa.Column(
            "task_id", sa.Integer(), autoincrement=False, nullable=False, comment="task (task_definitions.task_id)"
        ),
        sa.Column("version", sa.Integer(), nullable=False, comment="model version"),
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="user"),
        sa.Column("score", sa.Double(), nullable=True, comment="score; NULL with a reason"),
        sa.Column("percentile", sa.Double(), nullable=True, comment="share of scored users with a lower score, 0-100"),
        sa.Column("reason", sa.Text(), nullable=True, comment="why there is no score"),
        sa.PrimaryKeyConstraint("task_id", "user_id", name=op.f("score_rows_pkey")),
        schema="ubp",
        comment="Stored scores of whole populations, written by ubp.score_users; ubp.user_scores shows them.",
    )
    # Room for the next score of everybody on the page of the last one: no index is touched, no page is added.
    op.execute("alter table ubp.score_rows set (fillfactor = 45)")
    op.create_table(
        "score_runs",
        sa.Column("task_id", sa.Integer(), autoincrement=False, nullable=False, comment="task"),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False, comment="model version"),
        sa.Column("users", sa.BigInteger(), nullable=False, comment="users it answers for: their rows"),
        sa.Column("as_of", TIME, nullable=False, comment="moment of the features"),
        sa.Column("scored_at", TIME, server_default=sa.text("now()"), nullable=False, comment="when"),
        sa.ForeignKeyConstraint(["task_id"], ["ubp.task_definitions.task_id"], name=op.f("score_runs_task_id_fkey")),
        sa.PrimaryKeyConstraint("task_id", "version", name=op.f("score_runs_pkey")),
        schema="ubp",
        comment="What the stored scores of a version have in common: one row a version that has some.",
    )
    op.execute(COPY_RUNS)
    op.execute(COPY_ROWS)
    op.drop_table("user_scores", schema="ubp")
    op.execute("grant select on ubp.score_rows, ubp.score_runs to ubp_auditor")


def downgrade() -> None:
    """Functions and views go before the migrations are undone."""
    op.create_table(
        "user_scores",
        sa.Column("task", sa.Text(), nullable=False, comment="task"),
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="user"),
        sa.Column("score", sa.Double(), nullable=True, comment="score; NULL with a reason"),
        sa.Column("percentile", sa.Double(), nullable=True, comment="share of scored users with a lower score, 0-100"),
        sa.Column("reason", sa.Text(), nullable=True, comment="why there is no score"),
        sa.Column("version", sa.Integer(), nullable=False, comment="model version"),
        sa.Column("as_of", TIME, nullable=False, comment="moment of the features"),
        sa.Column("scored_at", TIME, server_default=sa.text("now()"), nullable=False, comment="when"),
        sa.Column(
            "tenant",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="owner of the row in a shared database; 0 = the only one",
        ),
        sa.PrimaryKeyConstraint("task", "user_id", name=op.f("user_scores_pkey")),
        schema="ubp",
        comment="Stored scores of whole populations, written by ubp.score_users.",
    )
    op.execute("grant select on ubp.user_scores to ubp_reader, ubp_loader, ubp_analyst, ubp_auditor")
    op.execute(COPY_BACK)
    op.drop_table("score_runs", schema="ubp")
    op.drop_table("score_rows", schema="ubp")
    op.drop_constraint("task_definitions_task_id_key", "task_definitions", schema="ubp")
    op.drop_column("task_definitions", "task_id", schema="ubp")
