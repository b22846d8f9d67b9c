"""Tables of schema `ubp`: tasks, their models, which of them answers whom and since when, and stored scores."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BYTEA, JSONB

from ubp_sql.schema.base import NOW, TIME, column, identity, table

task_definitions = table(
    "task_definitions",
    "What is predicted: the label, for whom, how far ahead (ubp.tasks shows them with their deployment).",
    column("task", sa.Text(), "name; predict_<task> is made with the first deployment", primary_key=True),
    column("meaning", sa.Text(), "what a score says, in a sentence", nullable=False),
    column("label_kind", sa.Text(), "event kind that the label is about; NULL = several, or a table"),
    column(
        "population_kind", sa.Text(), "whom it is asked of: users with an event of this kind before", nullable=False
    ),
    column("horizon", sa.Interval(), "how far ahead", nullable=False),
    column(
        "feature_set_id",
        sa.Integer(),
        "features it uses",
        sa.ForeignKey("ubp.feature_sets.feature_set_id"),
        nullable=False,
    ),
    column("created_at", TIME, "when it was defined", nullable=False, server_default=NOW),
    column("task_id", sa.Integer(), "number of the task, in its stored scores", sa.Identity(always=False), unique=True),
    column("label", JSONB(), "rule of the label, as ubp.define_task takes it", nullable=False),
    column(
        "output",
        sa.Text(),
        "chance: of a 1; amount: a number, no calibration map touches it",
        nullable=False,
        server_default="chance",
    ),
    sa.CheckConstraint("output in ('chance', 'amount')", name="output"),
)

models = table(
    "models",
    "Registered models: source, compiled form, lineage. Only status, checked, explainer, retired_at ever change.",
    identity("model_id", "number of the model"),
    column("task", sa.Text(), "task it answers", sa.ForeignKey("ubp.task_definitions.task"), nullable=False),
    column("version", sa.Integer(), "1, 2, ... within the task", nullable=False),
    column("format", sa.Text(), "format of the source", nullable=False),
    column("source", BYTEA(), "the model as the trainer wrote it", nullable=False),
    column("compiled", BYTEA(), "flat form that the scorer reads", nullable=False),
    column("compiled_sha256", sa.Text(), "hash of the compiled form", nullable=False),
    column(
        "feature_set_id",
        sa.Integer(),
        "feature set of its inputs",
        sa.ForeignKey("ubp.feature_sets.feature_set_id"),
        nullable=False,
    ),
    column("feature_set_hash", sa.Text(), "hash of that set when the model was trained", nullable=False),
    column("objective", sa.Text(), "what the score is", nullable=False),
    column("trees", sa.Integer(), "number of trees", nullable=False),
    column("settings", JSONB(), "settings of the training", nullable=False, server_default="{}"),
    column("data_from", TIME, "first training cut"),
    column("data_until", TIME, "end of the last label window used"),
    column("code_version", sa.Text(), "version of ubp_sql that registered it", nullable=False),
    column("created_by", sa.Text(), "role that registered it", nullable=False, server_default=sa.text("session_user")),
    column("created_at", TIME, "when", nullable=False, server_default=NOW),
    column("retired_at", TIME, "since when it can no longer be deployed"),
    column("retired_by", sa.Text(), "role that retired it"),
    column(
        "status",
        sa.Text(),
        "ready: can be deployed; pending: a network that has not run yet; refused: it ran badly",
        nullable=False,
        server_default="ready",
    ),
    column("checked", JSONB(), "what the first run of a network found, and when"),
    column("preparation", JSONB(), "steps done to the features before the model, as learnt"),
    column(
        "explainer",
        BYTEA(),
        "what exact reasons need beside the compiled form; NULL where its trees do not give them",
    ),
    sa.UniqueConstraint("task", "version"),
    sa.CheckConstraint("status in ('ready', 'pending', 'refused')", name="status"),
    sa.Index(None, "compiled_sha256"),
)

deployments = table(
    "deployments",
    "Which version answers for a task, now and before. A rollback is one more row.",
    identity("deployment_id", "number of the deployment"),
    column("task", sa.Text(), "task", sa.ForeignKey("ubp.task_definitions.task"), nullable=False),
    column("model_id", sa.BigInteger(), "model", sa.ForeignKey("ubp.models.model_id"), nullable=False),
    column("version", sa.Integer(), "version of the model", nullable=False),
    column("compiled_sha256", sa.Text(), "which compiled form a session must hold", nullable=False),
    column("feature_set_id", sa.Integer(), "feature set the model reads", nullable=False),
    column("feature_set_hash", sa.Text(), "hash of that set the model was trained on", nullable=False),
    column("population_position", sa.Integer(), "feature that must be at least 1 for a score", nullable=False),
    column("deployed_at", TIME, "from; later than now: it takes over then", nullable=False, server_default=NOW),
    column("deployed_by", sa.Text(), "role", nullable=False, server_default=sa.text("session_user")),
    column(
        "retired_at",
        TIME,
        "until; infinity = nothing follows; later than now: another version takes over then",
        nullable=False,
        server_default=sa.text("'infinity'"),
    ),
    column("cancelled_at", TIME, "when it was called off before its time"),
    column("map_id", sa.BigInteger(), "calibration map of the model; NULL = none"),
    column(
        "abstains",
        sa.Boolean(),
        "whether the task abstains from some users: only then is ubp.task_policies looked at",
        nullable=False,
        server_default="false",
    ),
    sa.ForeignKeyConstraint(["map_id", "model_id"], ["ubp.calibration_maps.map_id", "ubp.calibration_maps.model_id"]),
    sa.Index("deployments_task_last_idx", "task", unique=True, postgresql_where=sa.text("retired_at = 'infinity'")),
    sa.Index(None, "task", "retired_at"),
)

deployment_arms = table(
    "deployment_arms",
    "Versions beside the one that a deployment is of: challengers and shadows. Never changed.",
    column(
        "deployment_id",
        sa.BigInteger(),
        "deployment",
        sa.ForeignKey("ubp.deployments.deployment_id"),
        primary_key=True,
        autoincrement=False,
    ),
    column(
        "model_id",
        sa.BigInteger(),
        "model",
        sa.ForeignKey("ubp.models.model_id"),
        primary_key=True,
        autoincrement=False,
    ),
    column("role", sa.Text(), "challenger: answers for its share; shadow: is scored beside", nullable=False),
    column("share", sa.Double(), "part of the users it answers for, 0-1; 0 of a shadow", nullable=False),
    column("version", sa.Integer(), "version of the model", nullable=False),
    column("compiled_sha256", sa.Text(), "which compiled form a session must hold", nullable=False),
    column("feature_set_id", sa.Integer(), "feature set the model reads", nullable=False),
    column("feature_set_hash", sa.Text(), "hash of that set the model was trained on", nullable=False),
    column("population_position", sa.Integer(), "feature that must be at least 1 for a score", nullable=False),
    column("map_id", sa.BigInteger(), "calibration map of the model; NULL = none"),
    sa.ForeignKeyConstraint(["map_id", "model_id"], ["ubp.calibration_maps.map_id", "ubp.calibration_maps.model_id"]),
    sa.CheckConstraint("role in ('challenger', 'shadow')", name="role"),
    sa.CheckConstraint("share >= 0 and share <= 1 and (role = 'challenger') = (share > 0)", name="share"),
)

shadow_scores = table(
    "shadow_scores",
    "What shadows would have said, written by ubp.score_users; nobody is served them.",
    column("task", sa.Text(), "task", primary_key=True),
    column("version", sa.Integer(), "shadow's version", primary_key=True, autoincrement=False),
    column("user_id", sa.BigInteger(), "user", primary_key=True, autoincrement=False),
    column("score", sa.Double(), "its score; NULL: too little history"),
    column("as_of", TIME, "moment of the features", nullable=False),
    column("scored_at", TIME, "when", nullable=False, server_default=NOW),
)

model_metrics = table(
    "model_metrics",
    "How well each model did on moments it had not seen.",
    column(
        "model_id",
        sa.BigInteger(),
        "model",
        sa.ForeignKey("ubp.models.model_id"),
        primary_key=True,
        autoincrement=False,
    ),
    column("cut", TIME, "moment of the test", primary_key=True),
    column("metric", sa.Text(), "auc, pr_auc, log_loss, brier, calibration_error, lift_10", primary_key=True),
    column("value", sa.Double(), "value", nullable=False),
    column("n", sa.BigInteger(), "users tested", nullable=False),
    column("positives", sa.BigInteger(), "of them with the label", nullable=False),
    column("protocol", sa.Text(), "what was held out", nullable=False),
)

score_rows = table(
    "score_rows",
    "Stored scores of whole populations, written by ubp.score_users; ubp.user_scores shows them.",
    column("task_id", sa.Integer(), "task (task_definitions.task_id)", primary_key=True, autoincrement=False),
    column("version", sa.Integer(), "model version", nullable=False),
    column("user_id", sa.BigInteger(), "user", primary_key=True, autoincrement=False),
    column("score", sa.Double(), "score; NULL with a reason"),
    column("percentile", sa.Double(), "share of scored users with a lower score, 0-100"),
    column("reason", sa.Text(), "why there is no score"),
)

score_runs = table(
    "score_runs",
    "What the stored scores of a version have in common: one row a version that has some.",
    column(
        "task_id",
        sa.Integer(),
        "task",
        sa.ForeignKey("ubp.task_definitions.task_id"),
        primary_key=True,
        autoincrement=False,
    ),
    column("version", sa.Integer(), "model version", primary_key=True, autoincrement=False),
    column("users", sa.BigInteger(), "users it answers for: their rows", nullable=False),
    column("as_of", TIME, "moment of the features", nullable=False),
    column("scored_at", TIME, "when", nullable=False, server_default=NOW),
)
