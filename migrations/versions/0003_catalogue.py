"""What the declarative catalogue keeps of a feature, its plan, and the calendar.

Locks: access exclusive on ubp.feature_sets and ubp.feature_definitions, for columns that rewrite nothing.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

DEFINITIONS = (
    ("time_window", sa.Text(), "window as it is written: 7d, 36h, all, last 5, 4 x 7d"),
    ("edge_rule", sa.Text(), "which events the window takes"),
    ("cost", sa.Text(), "which events are looked at, and the bytes of each"),
    (
        "spec",
        postgresql.JSONB(astext_type=sa.Text()),
        "its definition; several columns of one definition have the same",
    ),
    ("sql_oracle", sa.Text(), "plain SQL that gives the value of every user at the set's as_of"),
)
# (table, column) or table: the comment now, and the one before.
COMMENTS = (
    (
        "table ubp.feature_sets",
        "A set of features computed together. It only grows: a changed definition is a new set.",
        "A set of features computed together. Never changed: a changed definition is a new set.",
    ),
    (
        "column ubp.feature_sets.definition",
        "what the features are, as ubp-sql features export shows it",
        "kinds and windows",
    ),
    ("column ubp.feature_definitions.family", "aggregate", "aggregate it belongs to"),
    (
        "column ubp.feature_definitions.kind",
        "event kind it is about; several with a comma between",
        "event kind it counts",
    ),
    (
        "column ubp.feature_definitions.window_days",
        "width of its window in days; NULL = lifetime, or see time_window",
        "width of its window in days; NULL = lifetime",
    ),
)
# A day more or less changes what events of the past count as.
MARK = """
create function ubp.log_calendar() returns trigger
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $plpgsql$
begin
  update ubp.feature_sets set stale = true where definition::text like '%holiday%';
  return null;
end
$plpgsql$"""


def upgrade() -> None:
    comment = "the definition as the kernels read it; NULL = made anew when it is needed"
    op.add_column("feature_sets", sa.Column("plan", postgresql.BYTEA(), nullable=True, comment=comment), schema="ubp")
    for name, kind, comment in DEFINITIONS:
        op.add_column("feature_definitions", sa.Column(name, kind, nullable=True, comment=comment), schema="ubp")
    for what, comment, _ in COMMENTS:
        op.execute(f"comment on {what} is '{comment}'")
    op.create_table(
        "calendar",
        sa.Column("day", sa.Date(), nullable=False, comment="local day"),
        sa.Column(
            "region",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="time zone of the feature sets that it counts for; empty: for all",
        ),
        sa.Column("name", sa.Text(), server_default="", nullable=False, comment="what it is"),
        sa.PrimaryKeyConstraint("day", "region", name=op.f("calendar_pkey")),
        schema="ubp",
        comment="Holidays and other days that features may ask for (of => 'holiday', holiday_share).",
    )
    op.execute(MARK)
    op.execute("revoke all on function ubp.log_calendar() from public")
    op.execute("comment on function ubp.log_calendar() is 'Marks the feature sets that use the calendar as stale'")
    op.execute(
        "create trigger log_calendar after insert or update or delete or truncate on ubp.calendar "
        "for each statement execute function ubp.log_calendar()"
    )
    op.execute("grant select on ubp.calendar to ubp_reader, ubp_loader, ubp_analyst, ubp_auditor")
    op.execute("grant insert, update, delete on ubp.calendar to ubp_loader")


def downgrade() -> None:
    op.drop_table("calendar", schema="ubp")
    op.execute("drop function ubp.log_calendar()")
    for what, _, before in COMMENTS:
        op.execute(f"comment on {what} is '{before}'")
    for name, _, _ in reversed(DEFINITIONS):
        op.drop_column("feature_definitions", name, schema="ubp")
    op.drop_column("feature_sets", "plan", schema="ubp")
