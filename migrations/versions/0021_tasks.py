"""Tasks with a label rule, or labels in a table, and of amounts beside chances.

Locks: access exclusive on ubp.task_definitions, for moments.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

KIND = "event kind that the label is about; NULL = several, or a table"
OLD_KIND = "label: an event of this kind within the horizon"
# As in 0005: a new defaulted parameter makes an overload beside the old function, and every call ambiguous.
DROP_OLD = """
do $do$
begin
  if to_regprocedure('ubp.define_task(text, text, text, interval, text, text)') is not null then
    drop function ubp.define_task(text, text, text, interval, text, text);
  end if;
end
$do$"""
# A rule that came back from a downgrade stands in label_kind; no kind of an event begins so.
FILL = """
update ubp.task_definitions
   set label = case when label_kind like '{"%' then label_kind::jsonb
                    else jsonb_build_object('any', jsonb_build_array(label_kind)) end"""
OUTPUTS = """
update ubp.task_definitions
   set output = case when label ?| array['count', 'sum', 'days_until', 'value'] then 'amount' else 'chance' end,
       label_kind = case when label_kind not like '{"%' then label_kind
                         when jsonb_array_length(coalesce(label -> 'any', label -> 'none', label -> 'count',
                                                          label -> 'days_until', label -> 'kinds')) = 1
                         then coalesce(label -> 'any', label -> 'none', label -> 'count', label -> 'days_until',
                                       label -> 'kinds') ->> 0 end"""
# Older code knows one rule, at least one event of a kind: any other stands in the kind's place as it is, where it is
# refused as a kind that no feature set has, and nothing is trained on other labels than before.
KEEP = """
update ubp.task_definitions set label_kind = label::text
 where label is distinct from jsonb_build_object('any', jsonb_build_array(label_kind))"""


def upgrade() -> None:
    op.execute(DROP_OLD)
    op.add_column(
        "task_definitions",
        sa.Column("label", JSONB(), nullable=True, comment="rule of the label, as ubp.define_task takes it"),
        schema="ubp",
    )
    op.add_column(
        "task_definitions",
        sa.Column(
            "output",
            sa.Text(),
            server_default="chance",
            nullable=False,
            comment="chance: of a 1; amount: a number, no calibration map touches it",
        ),
        schema="ubp",
    )
    op.execute(FILL)
    op.alter_column(
        "task_definitions",
        "label_kind",
        existing_type=sa.Text(),
        nullable=True,
        comment=KIND,
        existing_comment=OLD_KIND,
        schema="ubp",
    )
    op.execute(OUTPUTS)
    op.alter_column("task_definitions", "label", existing_type=JSONB(), nullable=False, schema="ubp")
    op.create_check_constraint(
        op.f("task_definitions_output_check"), "task_definitions", "output in ('chance', 'amount')", schema="ubp"
    )


def downgrade() -> None:
    op.execute(KEEP)
    op.alter_column(
        "task_definitions",
        "label_kind",
        existing_type=sa.Text(),
        nullable=False,
        comment=OLD_KIND,
        existing_comment=KIND,
        schema="ubp",
    )
    op.drop_constraint(op.f("task_definitions_output_check"), "task_definitions", schema="ubp")
    op.drop_column("task_definitions", "output", schema="ubp")
    op.drop_column("task_definitions", "label", schema="ubp")
