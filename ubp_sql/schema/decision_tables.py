"""Tables of schema `ubp`: when tasks abstain, and how far outcomes were from scores."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from ubp_sql.schema.base import NOW, TIME, column, identity, table

NUMBERS: ARRAY[float] = ARRAY(sa.Double())

task_policies = table(
    "task_policies",
    "When a task abstains (ubp.set_abstention); no row: never.",
    column("task", sa.Text(), "task", sa.ForeignKey("ubp.task_definitions.task", ondelete="CASCADE"), primary_key=True),
    column(
        "least_events",
        sa.Integer(),
        "no value for a user with fewer events of the population's kind; NULL = one is enough",
    ),
    column(
        "most_age", sa.Interval(), "no value when the stored features are older than that; NULL = whatever their age"
    ),
    column("set_at", TIME, "when", nullable=False, server_default=NOW),
    column("set_by", sa.Text(), "role that said so", nullable=False, server_default=sa.text("session_user")),
    sa.CheckConstraint("least_events >= 1", name="least_events"),
    sa.CheckConstraint("most_age > interval '0'", name="most_age"),
)

conformal_quantiles = table(
    "conformal_quantiles",
    "How far outcomes were from a model's scores where it was held out; the newest row of a model counts.",
    identity("conformal_id", "number"),
    column(
        "model_id",
        sa.BigInteger(),
        "model",
        sa.ForeignKey("ubp.models.model_id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    column(
        "form",
        sa.Text(),
        "interval: of |amount - score| / scale; set: of 1 - score of the outcome that came, no, then yes",
        nullable=False,
    ),
    column(
        "knots",
        NUMBERS,
        "scores between which the scale goes in straight lines, ascending; none for a set",
        nullable=False,
    ),
    column("scales", NUMBERS, "mean of |amount - score| around each knot", nullable=False),
    column(
        "edges",
        NUMBERS,
        "scores above which the next group of users begins, ascending; none for a set",
        nullable=False,
    ),
    column(
        "quantiles",
        NUMBERS,
        "at the levels 0.001 to 0.999, group after group; infinite: too few held-out users for it",
        nullable=False,
    ),
    column("least", sa.Double(), "no amount is below: where they pile up, else 0; NULL = no such end"),
    column("most", sa.Double(), "amounts pile up here, at their upper end; NULL = nowhere"),
    column("users", sa.BigInteger(), "held-out users", nullable=False),
    column("cuts", ARRAY(TIME), "moments they were held out at", nullable=False),
    column("created_at", TIME, "when", nullable=False, server_default=NOW),
    column("created_by", sa.Text(), "role that made it", nullable=False, server_default=sa.text("session_user")),
    sa.CheckConstraint("form in ('interval', 'set')", name="form"),
)
