"""Deployments on a timeline: switch-over at a set time, challengers, shadows; versions are retired.

Locks: access exclusive on ubp.models and ubp.deployments, for moments; no table is rewritten.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TIME = sa.TIMESTAMP(timezone=True)
UNTIL = "until; infinity = nothing follows; later than now: another version takes over then"
FROM = "from; later than now: it takes over then"
# What they were.
OLD_UNTIL = "until; NULL = answers now"
OLD_FROM = "from"
MODELS = "Registered models: source text, compiled form, lineage. Nothing changes once registered but retired_at."
OLD_MODELS = "Registered models: source text, compiled form, lineage. Never changed once registered."
# A new defaulted parameter makes an overload beside the old function, and every call ambiguous.
DROP_OLD = """
do $do$
begin
  if to_regprocedure('ubp.deploy_model(text, integer)') is not null then
    drop function ubp.deploy_model(text, integer);
  end if;
end
$do$"""


def upgrade() -> None:
    op.execute(DROP_OLD)
    op.create_table_comment("models", MODELS, existing_comment=OLD_MODELS, schema="ubp")
    op.add_column(
        "models",
        sa.Column("retired_at", TIME, nullable=True, comment="since when it can no longer be deployed"),
        schema="ubp",
    )
    op.add_column(
        "models", sa.Column("retired_by", sa.Text(), nullable=True, comment="role that retired it"), schema="ubp"
    )
    op.drop_index("deployments_task_live_idx", table_name="deployments", schema="ubp")
    op.execute("update ubp.deployments set retired_at = 'infinity' where retired_at is null")
    op.alter_column(
        "deployments",
        "retired_at",
        nullable=False,
        server_default=sa.text("'infinity'"),
        comment=UNTIL,
        existing_comment=OLD_UNTIL,
        existing_type=TIME,
        schema="ubp",
    )
    op.alter_column(
        "deployments", "deployed_at", comment=FROM, existing_comment=OLD_FROM, existing_type=TIME, schema="ubp"
    )
    op.add_column(
        "deployments",
        sa.Column("cancelled_at", TIME, nullable=True, comment="when it was called off before its time"),
        schema="ubp",
    )
    op.create_index(
        "deployments_task_last_idx",
        "deployments",
        ["task"],
        unique=True,
        schema="ubp",
        postgresql_where=sa.text("retired_at = 'infinity'"),
    )
    op.create_index(
        op.f("deployments_task_retired_at_idx"), "deployments", ["task", "retired_at"], unique=False, schema="ubp"
    )
    op.create_table(
        "deployment_arms",
        sa.Column("deployment_id", sa.BigInteger(), nullable=False, comment="deployment"),
        sa.Column("model_id", sa.BigInteger(), nullable=False, comment="model"),
        sa.Column(
            "role", sa.Text(), nullable=False, comment="challenger: answers for its share; shadow: is scored beside"
        ),
        sa.Column("share", sa.Double(), nullable=False, comment="part of the users it answers for, 0-1; 0 of a shadow"),
        sa.Column("version", sa.Integer(), nullable=False, comment="version of the model"),
        sa.Column("compiled_sha256", sa.Text(), nullable=False, comment="which compiled form a session must hold"),
        sa.Column("feature_set_id", sa.Integer(), nullable=False, comment="feature set the model reads"),
        sa.Column("feature_set_hash", sa.Text(), nullable=False, comment="hash of that set the model was trained on"),
        sa.Column(
            "population_position",
            sa.Integer(),
            nullable=False,
            comment="feature that must be at least 1 for a score",
        ),
        sa.CheckConstraint("role in ('challenger', 'shadow')", name=op.f("deployment_arms_role_check")),
        sa.CheckConstraint(
            "share >= 0 and share <= 1 and (role = 'challenger') = (share > 0)",
            name=op.f("deployment_arms_share_check"),
        ),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["ubp.deployments.deployment_id"], name=op.f("deployment_arms_deployment_id_fkey")
        ),
        sa.ForeignKeyConstraint(["model_id"], ["ubp.models.model_id"], name=op.f("deployment_arms_model_id_fkey")),
        sa.PrimaryKeyConstraint("deployment_id", "model_id", name=op.f("deployment_arms_pkey")),
        schema="ubp",
        comment="Versions beside the one that a deployment is of: challengers and shadows. Never changed.",
    )
    op.create_table(
        "shadow_scores",
        sa.Column("task", sa.Text(), nullable=False, comment="task"),
        sa.Column("version", sa.Integer(), nullable=False, comment="shadow's version"),
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="user"),
        sa.Column("score", sa.Double(), nullable=True, comment="its score; NULL: too little history"),
        sa.Column("as_of", TIME, nullable=False, comment="moment of the features"),
        sa.Column("scored_at", TIME, server_default=sa.text("now()"), nullable=False, comment="when"),
        sa.PrimaryKeyConstraint("task", "version", "user_id", name=op.f("shadow_scores_pkey")),
        schema="ubp",
        comment="What shadows would have said, written by ubp.score_users; nobody is served them.",
    )
    op.execute("grant select on ubp.deployment_arms to ubp_reader, ubp_auditor")
    op.execute("grant select on ubp.shadow_scores to ubp_analyst, ubp_auditor, ubp_admin")


def downgrade() -> None:
    """Challengers and shadows are forgotten, and what was to take over later never does."""
    op.execute("delete from ubp.deployment_arms")
    op.drop_table("shadow_scores", schema="ubp")
    op.drop_table("deployment_arms", schema="ubp")
    op.execute("delete from ubp.deployments where deployed_at > now()")
    op.drop_index("deployments_task_retired_at_idx", table_name="deployments", schema="ubp")
    op.drop_index("deployments_task_last_idx", table_name="deployments", schema="ubp")
    op.drop_column("deployments", "cancelled_at", schema="ubp")
    op.alter_column(
        "deployments",
        "retired_at",
        nullable=True,
        server_default=None,
        comment=OLD_UNTIL,
        existing_comment=UNTIL,
        existing_type=TIME,
        schema="ubp",
    )
    op.alter_column(
        "deployments", "deployed_at", comment=OLD_FROM, existing_comment=FROM, existing_type=TIME, schema="ubp"
    )
    op.execute("update ubp.deployments set retired_at = null where retired_at > now()")
    op.create_index(
        "deployments_task_live_idx",
        "deployments",
        ["task"],
        unique=True,
        schema="ubp",
        postgresql_where=sa.text("retired_at is null"),
    )
    op.drop_column("models", "retired_by", schema="ubp")
    op.drop_column("models", "retired_at", schema="ubp")
    op.create_table_comment("models", OLD_MODELS, existing_comment=MODELS, schema="ubp")
