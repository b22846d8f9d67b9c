"""Tables of schema `ubp`: what items were said to be."""

import sqlalchemy as sa

from ubp_sql.schema.base import NOW, TIME, column, table

item_attributes = table(
    "item_attributes",
    "What items were said to be: one row a statement, never overwritten; open to INSERT and COPY.",
    column("item_id", sa.BigInteger(), "which item", primary_key=True, autoincrement=False),
    column("name", sa.Text(), "name of the attribute", primary_key=True),
    column("value", sa.Double(), "number; NULL with text NULL = none from then on"),
    column("text", sa.Text(), "text; one that reads as a number counts as that too"),
    column("valid_from", TIME, "since when it holds; -infinity = always", primary_key=True, server_default=NOW),
    column(
        "ingested_at",
        TIME,
        "when the database learnt of it: an event knows what had arrived by its own ingested_at",
        primary_key=True,
        server_default=NOW,
    ),
)
