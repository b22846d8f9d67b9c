"""Tasks with a label rule, or labels in a table, and of amounts beside chances.

Locks: none.
"""

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
