"""Training sets: ubp.training_matrix takes more arguments and returns other columns.

Locks: none that matter, one function is dropped; it is made anew with the others.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Old and new side by side would make every call with two arguments ambiguous. A first installation has no old one.
DROP_OLD = """
do $do$
begin
  if to_regprocedure('ubp.training_matrix(text, timestamptz[])') is not null then
    drop function ubp.training_matrix(text, timestamptz[]);
  end if;
end
$do$"""


def upgrade() -> None:
    op.execute(DROP_OLD)


def downgrade() -> None:
    """Functions go before the migrations are undone."""
