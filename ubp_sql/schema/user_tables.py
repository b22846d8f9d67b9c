"""Tables of schema `ubp`: which keys are one user, and what attributes there are."""

import sqlalchemy as sa

from ubp_sql.schema.base import NOW, TIME, column, identity, table

user_links = table(
    "user_links",
    "Which keys were said to be one user (ubp.link_users); ubp.user_members follows from those that hold.",
    identity("link_id", "number of the link"),
    column("user_key", sa.Text(), "key whose user stays", nullable=False),
    column("other_key", sa.Text(), "key that became that user's, with all of its own", nullable=False),
    column("first_id", sa.BigInteger(), "id that user_key has by itself", nullable=False, index=True),
    column("other_id", sa.BigInteger(), "id that other_key has by itself", nullable=False, index=True),
    column("linked_at", TIME, "when", nullable=False, server_default=NOW),
    column("linked_by", sa.Text(), "role", nullable=False),
    column("unlinked_at", TIME, "when it was undone; NULL = it holds"),
    column("unlinked_by", sa.Text(), "role that undid it"),
)

attributes = table(
    "attributes",
    "Attributes whose type is declared (ubp.define_attribute); others may be numbers and texts.",
    column("of", sa.Text(), "user or item", primary_key=True),
    column("name", sa.Text(), "name of the attribute", primary_key=True),
    column("type", sa.Text(), "number or text", nullable=False),
    column("meaning", sa.Text(), "what it says, with its unit"),
    column("defined_at", TIME, "when", nullable=False, server_default=NOW),
    column("defined_by", sa.Text(), "role that declared it", nullable=False, server_default=sa.text("session_user")),
    sa.CheckConstraint("\"of\" in ('user', 'item')", name="of"),
    sa.CheckConstraint("type in ('number', 'text')", name="type"),
)
