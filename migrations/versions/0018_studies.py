"""What a model's features do on the whole: backgrounds, importance, partial dependence.

Locks: none but moments on ubp.models, for a foreign key.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

TIME = sa.TIMESTAMP(timezone=True)
GRANTS = {
    "select on ubp.model_backgrounds": "ubp_reader, ubp_auditor",
    "select on ubp.model_importance, ubp.model_effects": "ubp_reader, ubp_loader, ubp_analyst, ubp_auditor",
}


def upgrade() -> None:
    op.create_table(
        "model_backgrounds",
        sa.Column("model_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="model"),
        sa.Column("as_of", TIME, nullable=False, comment="moment of the features"),
        sa.Column("users", sa.BigInteger(), nullable=False, comment="users that the sample was drawn from"),
        sa.Column("sampled", sa.Integer(), nullable=False, comment="users in the sample"),
        sa.Column(
            "typical",
            postgresql.ARRAY(sa.REAL()),
            nullable=False,
            comment="median of each feature over the sample, its most frequent value where it is a category; NaN: most "
            "have none",
        ),
        sa.Column(
            "rows",
            sa.LargeBinary(),
            nullable=False,
            comment="their features, float32 little-endian, row by row, in the order of a hash of the user",
        ),
        sa.Column("method", sa.Text(), nullable=False, comment="how importance was found: shap or sampled shap"),
        sa.Column(
            "map_id", sa.BigInteger(), nullable=True, comment="calibration map that effects went through; NULL = none"
        ),
        sa.Column("studied_at", TIME, server_default=sa.text("now()"), nullable=False, comment="when"),
        sa.Column(
            "studied_by",
            sa.Text(),
            server_default=sa.text("session_user"),
            nullable=False,
            comment="role that asked for it",
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["ubp.models.model_id"], name=op.f("model_backgrounds_model_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_id", name=op.f("model_backgrounds_pkey")),
        schema="ubp",
        comment="Samples of whom models are asked about: what explanations compare a user with. A row a studied model.",
    )
    op.create_table(
        "model_importance",
        sa.Column("model_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="model"),
        sa.Column(
            "position", sa.Integer(), autoincrement=False, nullable=False, comment="feature_definitions.position"
        ),
        sa.Column(
            "importance",
            sa.Double(),
            nullable=False,
            comment="mean absolute contribution of the feature to the raw score, over the sample",
        ),
        sa.Column(
            "permutation",
            sa.Double(),
            nullable=False,
            comment="mean absolute change of the raw score when users of the sample swap the feature",
        ),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["ubp.model_backgrounds.model_id"],
            name=op.f("model_importance_model_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("model_id", "position", name=op.f("model_importance_pkey")),
        schema="ubp",
        comment="How much each feature of a studied model moves its scores; ubp.feature_importance ranks them.",
    )
    op.create_table(
        "model_effects",
        sa.Column("model_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="model"),
        sa.Column(
            "position", sa.Integer(), autoincrement=False, nullable=False, comment="feature_definitions.position"
        ),
        sa.Column(
            "point", sa.Integer(), autoincrement=False, nullable=False, comment="1, 2, ...: x ascends, missing last"
        ),
        sa.Column("x", sa.Double(), nullable=True, comment="value that the feature is set to; NULL = missing"),
        sa.Column("mean", sa.Double(), nullable=True, comment="mean score of the sample with it"),
        sa.Column("low", sa.Double(), nullable=True, comment="a tenth of the sample scores lower with it"),
        sa.Column("high", sa.Double(), nullable=True, comment="nine tenths of the sample score lower with it"),
        sa.Column("share", sa.Double(), nullable=False, comment="share of the sample whose own value is nearest to x"),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["ubp.model_backgrounds.model_id"],
            name=op.f("model_effects_model_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("model_id", "position", "point", name=op.f("model_effects_pkey")),
        schema="ubp",
        comment="Partial dependence: scores of a studied model's sample with one feature set to a value for everybody.",
    )
    for right, roles in GRANTS.items():
        op.execute(f"grant {right} to {roles}")


def downgrade() -> None:
    op.drop_table("model_effects", schema="ubp")
    op.drop_table("model_importance", schema="ubp")
    op.drop_table("model_backgrounds", schema="ubp")
