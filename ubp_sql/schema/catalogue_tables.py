"""Tables of schema `ubp`: what features need beside events: the calendar."""

import sqlalchemy as sa

from ubp_sql.schema.base import column, table

calendar = table(
    "calendar",
    "Holidays and other days that features may ask for (of => 'holiday', holiday_share).",
    column("day", sa.Date(), "local day", primary_key=True),
    column(
        "region",
        sa.Text(),
        "time zone of the feature sets that it counts for; empty: for all",
        primary_key=True,
        server_default="",
    ),
    column("name", sa.Text(), "what it is", nullable=False, server_default=""),
)
