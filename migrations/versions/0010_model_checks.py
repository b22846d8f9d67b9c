"""Models have a status: neural networks run once in a process of their own before they can be deployed.

Locks: access exclusive on ubp.models, for moments; no table is rewritten.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

MODELS = "Registered models: source, compiled form, lineage. Nothing but status, checked and retired_at ever changes."
OLD_MODELS = "Registered models: source text, compiled form, lineage. Nothing changes once registered but retired_at."


def upgrade() -> None:
    op.create_table_comment("models", MODELS, existing_comment=OLD_MODELS, schema="ubp")
    op.add_column(
        "models",
        sa.Column(
            "status",
            sa.Text(),
            server_default="ready",
            nullable=False,
            comment="ready: can be deployed; pending: a network that has not run yet; refused: it ran badly",
        ),
        schema="ubp",
    )
    op.add_column(
        "models",
        sa.Column("checked", JSONB(), nullable=True, comment="what the first run of a network found, and when"),
        schema="ubp",
    )
    op.create_check_constraint(
        op.f("models_status_check"), "models", "status in ('ready', 'pending', 'refused')", schema="ubp"
    )
    op.create_index(op.f("models_compiled_sha256_idx"), "models", ["compiled_sha256"], unique=False, schema="ubp")


def downgrade() -> None:
    """What is not ready is retired: nothing else would keep it from being deployed."""
    op.execute(
        "update ubp.models set retired_at = now(), retired_by = session_user"
        " where status <> 'ready' and retired_at is null"
    )
    op.drop_index("models_compiled_sha256_idx", table_name="models", schema="ubp")
    op.drop_constraint("models_status_check", "models", schema="ubp")
    op.drop_column("models", "checked", schema="ubp")
    op.drop_column("models", "status", schema="ubp")
    op.create_table_comment("models", OLD_MODELS, existing_comment=MODELS, schema="ubp")
