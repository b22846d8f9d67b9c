"""What the declarative catalogue keeps of a feature.

Locks: none that matter, every object is new.
"""

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
