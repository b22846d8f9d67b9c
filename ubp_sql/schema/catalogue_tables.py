"""Tables of schema `ubp`: what features need beside events: the calendar."""

import sqlalchemy as sa

from ubp_sql.schema.base import column, table

calendar = table(
    "calendar",
    "Holidays, which features may ask for (of => 'holiday', holiday_share), and seasons; ubp-sql calendar fill.",
    column("day", sa.Date(), "local day", primary_key=True),
    column(
        "region",
        sa.Text(),
        "time zone of the feature sets that it counts for; empty: for all",
        primary_key=True,
        server_default="",
    ),
    column("name", sa.Text(), "what it is", primary_key=True, server_default=""),
    column("kind", sa.Text(), "holiday, or season: no holiday", nullable=False, server_default="holiday"),
    column("source", sa.Text(), "what made it; empty: put in by hand", nullable=False, server_default=""),
    sa.CheckConstraint("kind in ('holiday', 'season')", name="kind"),
)
