"""Policies of tasks: when they abstain; conformal quantiles of models.

Locks: share row exclusive on ubp.task_definitions and ubp.models, for the two references.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

TIME = sa.TIMESTAMP(timezone=True)
NOW = sa.text("now()")
NUMBERS: ARRAY[float] = ARRAY(sa.Double())


def upgrade() -> None:
    op.create_table(
        "task_policies",
        sa.Column("task", sa.Text(), nullable=False, comment="task"),
        sa.Column(
            "least_events",
            sa.Integer(),
            nullable=True,
            comment="no value for a user with fewer events of the population's kind; NULL = one is enough",
        ),
        sa.Column(
            "most_age",
            sa.Interval(),
            nullable=True,
            comment="no value when the stored features are older than that; NULL = whatever their age",
        ),
        sa.Column("set_at", TIME, server_default=NOW, nullable=False, comment="when"),
        sa.Column(
            "set_by", sa.Text(), server_default=sa.text("session_user"), nullable=False, comment="role that said so"
        ),
        sa.CheckConstraint("least_events >= 1", name=op.f("task_policies_least_events_check")),
        sa.CheckConstraint("most_age > interval '0'", name=op.f("task_policies_most_age_check")),
        sa.ForeignKeyConstraint(
            ["task"], ["ubp.task_definitions.task"], name=op.f("task_policies_task_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("task", name=op.f("task_policies_pkey")),
        schema="ubp",
        comment="When a task abstains (ubp.set_abstention); no row: never.",
    )
    op.create_table(
        "conformal_quantiles",
        sa.Column("conformal_id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="number"),
        sa.Column("model_id", sa.BigInteger(), nullable=False, comment="model"),
        sa.Column(
            "form",
            sa.Text(),
            nullable=False,
            comment="interval: of |amount - score| / scale; set: of 1 - score of the outcome that came, no, then yes",
        ),
        sa.Column(
            "knots",
            NUMBERS,
            nullable=False,
            comment="scores between which the scale goes in straight lines, ascending; none for a set",
        ),
        sa.Column("scales", NUMBERS, nullable=False, comment="mean of |amount - score| around each knot"),
        sa.Column(
            "edges",
            NUMBERS,
            nullable=False,
            comment="scores above which the next group of users begins, ascending; none for a set",
        ),
        sa.Column(
            "quantiles",
            NUMBERS,
            nullable=False,
            comment="at the levels 0.001 to 0.999, group after group; infinite: too few held-out users for it",
        ),
        sa.Column(
            "least",
            sa.Double(),
            nullable=True,
            comment="no amount is below: where they pile up, else 0; NULL = no such end",
        ),
        sa.Column(
            "most", sa.Double(), nullable=True, comment="amounts pile up here, at their upper end; NULL = nowhere"
        ),
        sa.Column("users", sa.BigInteger(), nullable=False, comment="held-out users"),
        sa.Column("cuts", ARRAY(TIME), nullable=False, comment="moments they were held out at"),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="when"),
        sa.Column(
            "created_by", sa.Text(), server_default=sa.text("session_user"), nullable=False, comment="role that made it"
        ),
        sa.CheckConstraint("form in ('interval', 'set')", name=op.f("conformal_quantiles_form_check")),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["ubp.models.model_id"],
            name=op.f("conformal_quantiles_model_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("conformal_id", name=op.f("conformal_quantiles_pkey")),
        schema="ubp",
        comment="How far outcomes were from a model's scores where it was held out; the newest row of a model counts.",
    )
    op.create_index(
        op.f("conformal_quantiles_model_id_idx"), "conformal_quantiles", ["model_id"], unique=False, schema="ubp"
    )
    op.execute(
        "grant select on ubp.task_policies, ubp.conformal_quantiles to ubp_reader, ubp_loader, ubp_analyst, ubp_auditor"
    )
    op.execute("grant select on ubp.score_rows, ubp.score_runs to ubp_reader")


def downgrade() -> None:
    op.execute("revoke select on ubp.score_rows, ubp.score_runs from ubp_reader")
    op.drop_table("conformal_quantiles", schema="ubp")
    op.drop_table("task_policies", schema="ubp")
