"""Tables of schema `ubp`: held-out tests of models, calibration maps, and how well calibrated models are."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB

from ubp_sql.schema.base import NOW, TIME, column, identity, model_key, table

model_tests = table(
    "model_tests",
    "Scores and outcomes of users at moments that a model, or its like trained earlier, had not seen.",
    model_key(),
    column("cut", TIME, "moment of the test", primary_key=True),
    column(
        "part",
        sa.Text(),
        "test: what metrics are about; calibration: an earlier cut that maps and intervals are fitted on",
        primary_key=True,
    ),
    column("n", sa.BigInteger(), "users tested", nullable=False),
    column("users", BYTEA(), "user ids, int64, little-endian", nullable=False),
    column("scores", BYTEA(), "scores before any map, float64, little-endian", nullable=False),
    column("labels", BYTEA(), "outcomes, float64, little-endian", nullable=False),
    column("protocol", sa.Text(), "what was held out", nullable=False),
    column("recorded_at", TIME, "when", nullable=False, server_default=NOW),
    sa.CheckConstraint("part in ('test', 'calibration')", name="part"),
    sa.CheckConstraint(
        "n > 0 and length(users) = 8 * n and length(scores) = 8 * n and length(labels) = 8 * n", name="n"
    ),
)

calibration_maps = table(
    "calibration_maps",
    "From a model's scores to chances that come true: fitted on held-out scores, the newest is deployed.",
    identity("map_id", "number of the map"),
    column(
        "model_id",
        sa.BigInteger(),
        "model whose scores it takes",
        sa.ForeignKey("ubp.models.model_id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    column("method", sa.Text(), "isotonic: linear between knots; platt: a logistic curve", nullable=False),
    column("x", ARRAY(sa.Double()), "isotonic: scores of the knots; platt: slope and intercept", nullable=False),
    column("y", ARRAY(sa.Double()), "isotonic: chances at the knots; platt: empty", nullable=False),
    column("n", sa.BigInteger(), "scores it was fitted on; 0 = not known", nullable=False),
    column("cuts", ARRAY(TIME), "moments it was fitted on", nullable=False),
    column(
        "metrics",
        JSONB(),
        "what each method gave on the newest of these moments, left out",
        nullable=False,
        server_default="{}",
    ),
    column("created_at", TIME, "when", nullable=False, server_default=NOW),
    column("created_by", sa.Text(), "role that made it", nullable=False, server_default=sa.text("session_user")),
    sa.CheckConstraint(
        "method = 'isotonic' and cardinality(x) between 1 and 10000 and cardinality(y) = cardinality(x)"
        " or method = 'platt' and cardinality(x) = 2 and cardinality(y) = 0",
        name="method",
    ),
    sa.UniqueConstraint("map_id", "model_id"),
)

calibration_tests = table(
    "calibration_tests",
    "How far scores are from what came true, with and without a map; ubp.reliability shows them.",
    model_key(),
    column("cut", TIME, "moment of the test", primary_key=True),
    column(
        "calibrated",
        sa.Boolean(),
        "true: after a map that was fitted on outcomes known by the cut",
        primary_key=True,
    ),
    column("method", sa.Text(), "isotonic or platt; NULL = no map"),
    column("n", sa.BigInteger(), "users", nullable=False),
    column("positives", sa.BigInteger(), "of them with the label", nullable=False),
    column("error", sa.Double(), "expected calibration error, ten bins of equal size", nullable=False),
    column("low", sa.Double(), "lower end of its interval at level 0.95, by bootstrap, less bias", nullable=False),
    column("high", sa.Double(), "upper end", nullable=False),
    column(
        "by_chance",
        sa.Double(),
        "error below which 95 of 100 tests of a perfectly calibrated model stay",
        nullable=False,
    ),
    column("with_drift", sa.Double(), "the same where moments drift as far apart as those before did; NULL = too few"),
    column("log_loss", sa.Double(), "log loss", nullable=False),
    column("brier", sa.Double(), "Brier score", nullable=False),
    column("bin_n", ARRAY(sa.BigInteger()), "users of each bin", nullable=False),
    column("bin_score", ARRAY(sa.Double()), "mean score of each bin", nullable=False),
    column("bin_share", ARRAY(sa.Double()), "share with the label of each bin", nullable=False),
)
