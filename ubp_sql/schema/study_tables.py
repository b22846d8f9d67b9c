"""Tables of schema `ubp`: what a model's features do on the whole, and the sample of users that says so."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, REAL

from ubp_sql.schema.base import NOW, TIME, column, model_key, table

model_backgrounds = table(
    "model_backgrounds",
    "Samples of whom models are asked about: what explanations compare a user with. A row a studied model.",
    model_key(),
    column("as_of", TIME, "moment of the features", nullable=False),
    column("users", sa.BigInteger(), "users that the sample was drawn from", nullable=False),
    column("sampled", sa.Integer(), "users in the sample", nullable=False),
    column(
        "typical",
        ARRAY(REAL()),
        "median of each feature over the sample, its most frequent value where it is a category; NaN: most have none",
        nullable=False,
    ),
    column(
        "rows",
        BYTEA(),
        "their features, float32 little-endian, row by row, in the order of a hash of the user",
        nullable=False,
    ),
    column("method", sa.Text(), "how importance was found: shap or sampled shap", nullable=False),
    column("map_id", sa.BigInteger(), "calibration map that effects went through; NULL = none"),
    column("studied_at", TIME, "when", nullable=False, server_default=NOW),
    column("studied_by", sa.Text(), "role that asked for it", nullable=False, server_default=sa.text("session_user")),
)


def _position() -> sa.Column[int]:
    return column("position", sa.Integer(), "feature_definitions.position", primary_key=True, autoincrement=False)


model_importance = table(
    "model_importance",
    "How much each feature of a studied model moves its scores; ubp.feature_importance ranks them.",
    model_key("model_backgrounds"),
    _position(),
    column(
        "importance",
        sa.Double(),
        "mean absolute contribution of the feature to the raw score, over the sample",
        nullable=False,
    ),
    column(
        "permutation",
        sa.Double(),
        "mean absolute change of the raw score when users of the sample swap the feature",
        nullable=False,
    ),
)

model_effects = table(
    "model_effects",
    "Partial dependence: scores of a studied model's sample with one feature set to a value for everybody.",
    model_key("model_backgrounds"),
    _position(),
    column("point", sa.Integer(), "1, 2, ...: x ascends, missing last", primary_key=True, autoincrement=False),
    column("x", sa.Double(), "value that the feature is set to; NULL = missing"),
    column("mean", sa.Double(), "mean score of the sample with it"),
    column("low", sa.Double(), "a tenth of the sample scores lower with it"),
    column("high", sa.Double(), "nine tenths of the sample score lower with it"),
    column("share", sa.Double(), "share of the sample whose own value is nearest to x", nullable=False),
)
