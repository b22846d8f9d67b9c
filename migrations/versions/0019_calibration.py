"""Held-out tests of models, calibration maps, how well calibrated models are, and deployments with a map.

Locks: access exclusive on ubp.deployments and deployment_arms, share row exclusive on ubp.models;
for moments, no table is rewritten.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TIME = sa.TIMESTAMP(timezone=True)
NOW = sa.text("now()")
DOUBLES: postgresql.ARRAY[float] = postgresql.ARRAY(sa.Double())
SERVING = ("deployments", "deployment_arms")
GRANTS = {
    "select on ubp.calibration_maps, ubp.calibration_tests": "ubp_reader, ubp_analyst, ubp_auditor, ubp_loader",
    "select on ubp.model_tests": "ubp_reader, ubp_auditor",
}


def upgrade() -> None:
    _model_tests()
    _calibration_maps()
    _calibration_tests()
    for name in SERVING:
        op.add_column(
            name,
            sa.Column("map_id", sa.BigInteger(), nullable=True, comment="calibration map of the model; NULL = none"),
            schema="ubp",
        )
        op.create_foreign_key(
            op.f(f"{name}_map_id_model_id_fkey"),
            name,
            "calibration_maps",
            ["map_id", "model_id"],
            ["map_id", "model_id"],
            source_schema="ubp",
            referent_schema="ubp",
        )
    op.add_column(
        "deployments",
        sa.Column(
            "abstains",
            sa.Boolean(),
            server_default="false",
            nullable=False,
            comment="whether the task abstains from some users: only then is ubp.task_policies looked at",
        ),
        schema="ubp",
    )
    for right, roles in GRANTS.items():
        op.execute(f"grant {right} to {roles}")


def downgrade() -> None:
    """What answers through a map answers with the model's own score from then on."""
    op.drop_column("deployments", "abstains", schema="ubp")
    for name in SERVING:
        op.drop_constraint(op.f(f"{name}_map_id_model_id_fkey"), name, schema="ubp")
        op.drop_column(name, "map_id", schema="ubp")
    for name in ("calibration_tests", "calibration_maps", "model_tests"):
        op.drop_table(name, schema="ubp")


def _model_tests() -> None:
    op.create_table(
        "model_tests",
        sa.Column("model_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="model"),
        sa.Column("cut", TIME, nullable=False, comment="moment of the test"),
        sa.Column(
            "part",
            sa.Text(),
            nullable=False,
            comment="test: what metrics are about; calibration: an earlier cut that maps and intervals are fitted on",
        ),
        sa.Column("n", sa.BigInteger(), nullable=False, comment="users tested"),
        sa.Column("users", postgresql.BYTEA(), nullable=False, comment="user ids, int64, little-endian"),
        sa.Column(
            "scores", postgresql.BYTEA(), nullable=False, comment="scores before any map, float64, little-endian"
        ),
        sa.Column("labels", postgresql.BYTEA(), nullable=False, comment="outcomes, float64, little-endian"),
        sa.Column("protocol", sa.Text(), nullable=False, comment="what was held out"),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False, comment="when"),
        sa.CheckConstraint("part in ('test', 'calibration')", name=op.f("model_tests_part_check")),
        sa.CheckConstraint(
            "n > 0 and length(users) = 8 * n and length(scores) = 8 * n and length(labels) = 8 * n",
            name=op.f("model_tests_n_check"),
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["ubp.models.model_id"], name=op.f("model_tests_model_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_id", "cut", "part", name=op.f("model_tests_pkey")),
        schema="ubp",
        comment="Scores and outcomes of users at moments that a model, or its like trained earlier, had not seen.",
    )


def _calibration_maps() -> None:
    op.create_table(
        "calibration_maps",
        sa.Column("map_id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="number of the map"),
        sa.Column("model_id", sa.BigInteger(), nullable=False, comment="model whose scores it takes"),
        sa.Column(
            "method", sa.Text(), nullable=False, comment="isotonic: linear between knots; platt: a logistic curve"
        ),
        sa.Column("x", DOUBLES, nullable=False, comment="isotonic: scores of the knots; platt: slope and intercept"),
        sa.Column("y", DOUBLES, nullable=False, comment="isotonic: chances at the knots; platt: empty"),
        sa.Column("n", sa.BigInteger(), nullable=False, comment="scores it was fitted on; 0 = not known"),
        sa.Column("cuts", postgresql.ARRAY(TIME), nullable=False, comment="moments it was fitted on"),
        sa.Column(
            "metrics",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="{}",
            nullable=False,
            comment="what each method gave on the newest of these moments, left out",
        ),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False, comment="when"),
        sa.Column(
            "created_by", sa.Text(), server_default=sa.text("session_user"), nullable=False, comment="role that made it"
        ),
        sa.CheckConstraint(
            "method = 'isotonic' and cardinality(x) between 1 and 10000 and cardinality(y) = cardinality(x)"
            " or method = 'platt' and cardinality(x) = 2 and cardinality(y) = 0",
            name=op.f("calibration_maps_method_check"),
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["ubp.models.model_id"], name=op.f("calibration_maps_model_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("map_id", name=op.f("calibration_maps_pkey")),
        sa.UniqueConstraint("map_id", "model_id", name=op.f("calibration_maps_map_id_model_id_key")),
        schema="ubp",
        comment="From a model's scores to chances that come true: fitted on held-out scores, the newest is deployed.",
    )
    op.create_index(op.f("calibration_maps_model_id_idx"), "calibration_maps", ["model_id"], unique=False, schema="ubp")


def _calibration_tests() -> None:
    op.create_table(
        "calibration_tests",
        sa.Column("model_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="model"),
        sa.Column("cut", TIME, nullable=False, comment="moment of the test"),
        sa.Column(
            "calibrated",
            sa.Boolean(),
            nullable=False,
            comment="true: after a map that was fitted on outcomes known by the cut",
        ),
        sa.Column("method", sa.Text(), nullable=True, comment="isotonic or platt; NULL = no map"),
        sa.Column("n", sa.BigInteger(), nullable=False, comment="users"),
        sa.Column("positives", sa.BigInteger(), nullable=False, comment="of them with the label"),
        sa.Column("error", sa.Double(), nullable=False, comment="expected calibration error, ten bins of equal size"),
        sa.Column(
            "low",
            sa.Double(),
            nullable=False,
            comment="lower end of its interval at level 0.95, by bootstrap, less bias",
        ),
        sa.Column("high", sa.Double(), nullable=False, comment="upper end"),
        sa.Column(
            "by_chance",
            sa.Double(),
            nullable=False,
            comment="error below which 95 of 100 tests of a perfectly calibrated model stay",
        ),
        sa.Column(
            "with_drift",
            sa.Double(),
            nullable=True,
            comment="the same where moments drift as far apart as those before did; NULL = too few",
        ),
        sa.Column("log_loss", sa.Double(), nullable=False, comment="log loss"),
        sa.Column("brier", sa.Double(), nullable=False, comment="Brier score"),
        sa.Column("bin_n", postgresql.ARRAY(sa.BigInteger()), nullable=False, comment="users of each bin"),
        sa.Column("bin_score", DOUBLES, nullable=False, comment="mean score of each bin"),
        sa.Column("bin_share", DOUBLES, nullable=False, comment="share with the label of each bin"),
        sa.ForeignKeyConstraint(
            ["model_id"], ["ubp.models.model_id"], name=op.f("calibration_tests_model_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_id", "cut", "calibrated", name=op.f("calibration_tests_pkey")),
        schema="ubp",
        comment="How far scores are from what came true, with and without a map; ubp.reliability shows them.",
    )
