"""Models have an explainer: what exact reasons for a forest's scores need beside its compiled form.

Locks: access exclusive on ubp.models, for moments; no table is rewritten.

`ubp-sql init` fills the column afterwards (ubp.rebuild_generated).
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

MODELS = "Registered models: source, compiled form, lineage. Only status, checked, explainer, retired_at ever change."
OLD_MODELS = (
    "Registered models: source, compiled form, lineage. Nothing but status, checked and retired_at ever changes."
)


def upgrade() -> None:
    op.create_table_comment("models", MODELS, existing_comment=OLD_MODELS, schema="ubp")
    op.add_column(
        "models",
        sa.Column(
            "explainer",
            sa.LargeBinary(),
            nullable=True,
            comment="what exact reasons need beside the compiled form; NULL where its trees do not give them",
        ),
        schema="ubp",
    )


def downgrade() -> None:
    """It is computed from the source: nothing is lost."""
    op.drop_column("models", "explainer", schema="ubp")
    op.create_table_comment("models", OLD_MODELS, existing_comment=MODELS, schema="ubp")
