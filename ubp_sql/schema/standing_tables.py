"""Tables of schema `ubp`: what the population was like at the start of a day."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BYTEA

from ubp_sql.schema.base import TIME, column, table

standings = table(
    "standings",
    "What features that set a user beside all users go by: the population at the start of a UTC day, written once.",
    column(
        "feature_set_id",
        sa.Integer(),
        "set",
        sa.ForeignKey("ubp.feature_sets.feature_set_id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    column("position", sa.Integer(), "feature_definitions.position", primary_key=True, autoincrement=False),
    column("day", sa.Date(), "day in UTC: what had happened and was known at its start", primary_key=True),
    column("n", sa.BigInteger(), "percentile: users with a value; item_popularity: events", nullable=False),
    column(
        "keys",
        BYTEA(),
        "percentile: different values, float32; item_popularity: items, float64; ascending, little-endian",
        nullable=False,
    ),
    column(
        "results",
        BYTEA(),
        "float32; percentile: below the first key, at it, between it and the next, ...; item_popularity: events a key",
        nullable=False,
    ),
    column("recorded_at", TIME, "when it was written", nullable=False, server_default=sa.text("clock_timestamp()")),
)
