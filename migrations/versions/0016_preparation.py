"""Models have a preparation: what is done to their features before them, kept beside the file that it came in.

Locks: access exclusive on ubp.models, for moments; no table is rewritten.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "models",
        sa.Column(
            "preparation", JSONB(), nullable=True, comment="steps done to the features before the model, as learnt"
        ),
        schema="ubp",
    )


def downgrade() -> None:
    """What older code cannot read is retired: nothing else would keep it from being deployed."""
    op.execute(
        "update ubp.models set retired_at = now(), retired_by = session_user"
        " where (preparation is not null or format = 'linear') and retired_at is null"
    )
    op.drop_column("models", "preparation", schema="ubp")
