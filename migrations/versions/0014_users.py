"""Links between user keys, declared attributes, and what a day of the calendar is and who put it there.

Locks: access exclusive on ubp.calendar, whose primary key is built anew, and on ubp.item_attributes, for two triggers.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TIME = sa.TIMESTAMP(timezone=True)
GRANTS = {
    "ubp_reader": "attributes",
    "ubp_loader": "attributes, user_links",
    "ubp_analyst": "attributes",
    "ubp_auditor": "attributes, user_links",
}
# (table or column): the comment now, and the one before.
COMMENTS = {
    "table ubp.calendar": (
        "Holidays, which features may ask for (of => 'holiday', holiday_share), and seasons; ubp-sql calendar fill.",
        "Holidays and other days that features may ask for (of => 'holiday', holiday_share).",
    ),
}
# As ubp.set_item_attribute does for one row. The number is read as features read it (features/columns.py).
CHECK_ITEMS = """
create function ubp.check_item_attributes() returns trigger
language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $plpgsql$
declare
  bad record;
begin
  select f.item_id, f.name, a.type, coalesce(f.text, f.value::text) as said into bad
    from fresh f join ubp.attributes a on a.of = 'item' and a.name = f.name
   where case a.type
         when 'number' then f.value is null and f.text is not null
           and f.text !~ '^[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]{1,3})?$'
         else f.text is null and f.value is not null end
   limit 1;
  if found then
    raise exception using errcode = 'UB003',
      message = concat('attribute ', bad.name, ' of items is a ', bad.type, ', and ', left(bad.said, 60),
                       ' of item ', bad.item_id, ' is none'),
      hint = 'ubp.attributes says what each is; another meaning takes another name';
  end if;
  return null;
end
$plpgsql$"""
TRIGGERS = {
    "check_insert": "insert on ubp.item_attributes referencing new table as fresh",
    "check_update": "update on ubp.item_attributes referencing new table as fresh",
}
# Who was linked is himself again, and a member's name goes with its link.
UNLINK = """
with gone as (delete from ubp.user_members returning 1)
insert into ubp.event_log (op) select 'T' where exists (select from gone)"""
# Seasons would count as holidays, and a day had one name.
ONE_NAME = """
delete from ubp.calendar c
 where c.kind <> 'holiday'
    or exists (select from ubp.calendar o where o.day = c.day and o.region = c.region and o.name < c.name
                                            and o.kind = 'holiday')"""


def upgrade() -> None:
    op.create_table(
        "user_links",
        sa.Column("link_id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="number of the link"),
        sa.Column("user_key", sa.Text(), nullable=False, comment="key whose user stays"),
        sa.Column("other_key", sa.Text(), nullable=False, comment="key that became that user's, with all of its own"),
        sa.Column("first_id", sa.BigInteger(), nullable=False, comment="id that user_key has by itself"),
        sa.Column("other_id", sa.BigInteger(), nullable=False, comment="id that other_key has by itself"),
        sa.Column("linked_at", TIME, server_default=sa.text("now()"), nullable=False, comment="when"),
        sa.Column("linked_by", sa.Text(), nullable=False, comment="role"),
        sa.Column("unlinked_at", TIME, nullable=True, comment="when it was undone; NULL = it holds"),
        sa.Column("unlinked_by", sa.Text(), nullable=True, comment="role that undid it"),
        sa.PrimaryKeyConstraint("link_id", name=op.f("user_links_pkey")),
        schema="ubp",
        comment="Which keys were said to be one user (ubp.link_users); ubp.user_members follows from those that hold.",
    )
    op.create_index(op.f("user_links_first_id_idx"), "user_links", ["first_id"], unique=False, schema="ubp")
    op.create_index(op.f("user_links_other_id_idx"), "user_links", ["other_id"], unique=False, schema="ubp")
    op.create_table(
        "attributes",
        sa.Column("of", sa.Text(), nullable=False, comment="user or item"),
        sa.Column("name", sa.Text(), nullable=False, comment="name of the attribute"),
        sa.Column("type", sa.Text(), nullable=False, comment="number or text"),
        sa.Column("meaning", sa.Text(), nullable=True, comment="what it says, with its unit"),
        sa.Column("defined_at", TIME, server_default=sa.text("now()"), nullable=False, comment="when"),
        sa.Column(
            "defined_by",
            sa.Text(),
            server_default=sa.text("session_user"),
            nullable=False,
            comment="role that declared it",
        ),
        sa.CheckConstraint("\"of\" in ('user', 'item')", name=op.f("attributes_of_check")),
        sa.CheckConstraint("type in ('number', 'text')", name=op.f("attributes_type_check")),
        sa.PrimaryKeyConstraint("of", "name", name=op.f("attributes_pkey")),
        schema="ubp",
        comment="Attributes whose type is declared (ubp.define_attribute); others may be numbers and texts.",
    )
    op.add_column(
        "calendar",
        sa.Column(
            "kind", sa.Text(), server_default="holiday", nullable=False, comment="holiday, or season: no holiday"
        ),
        schema="ubp",
    )
    op.add_column(
        "calendar",
        sa.Column(
            "source", sa.Text(), server_default="", nullable=False, comment="what made it; empty: put in by hand"
        ),
        schema="ubp",
    )
    op.create_check_constraint(op.f("calendar_kind_check"), "calendar", "kind in ('holiday', 'season')", schema="ubp")
    op.drop_constraint(op.f("calendar_pkey"), "calendar", schema="ubp")
    op.create_primary_key(op.f("calendar_pkey"), "calendar", ["day", "region", "name"], schema="ubp")
    _comments(0)
    op.execute(CHECK_ITEMS)
    op.execute("revoke all on function ubp.check_item_attributes() from public")
    op.execute("comment on function ubp.check_item_attributes() is 'Refuses values that are not of a declared type'")
    for name, when in TRIGGERS.items():
        op.execute(
            f"create trigger {name} after {when} for each statement execute function ubp.check_item_attributes()"
        )
    for role, tables in GRANTS.items():
        names = ", ".join(f"ubp.{table.strip()}" for table in tables.split(","))
        op.execute(f"grant select on {names} to {role}")


def downgrade() -> None:
    for name in TRIGGERS:
        op.execute(f"drop trigger {name} on ubp.item_attributes")
    op.execute("drop function ubp.check_item_attributes()")
    _comments(1)
    op.execute(ONE_NAME)
    op.drop_constraint(op.f("calendar_pkey"), "calendar", schema="ubp")
    op.create_primary_key(op.f("calendar_pkey"), "calendar", ["day", "region"], schema="ubp")
    op.drop_column("calendar", "source", schema="ubp")
    op.drop_column("calendar", "kind", schema="ubp")
    op.drop_table("attributes", schema="ubp")
    op.execute(UNLINK)
    op.drop_table("user_links", schema="ubp")


def _comments(which: int) -> None:
    for what, comments in COMMENTS.items():
        text = comments[which].replace("'", "''")
        op.execute(f"comment on {what} is '{text}'")
