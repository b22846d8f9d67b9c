"""First tables, their comments, the default partition of events, and what each role may do.

Locks: none that matter, every object is new.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ALL_ROLES = "ubp_reader, ubp_loader, ubp_analyst, ubp_auditor, ubp_admin"
# A column list in a right: an update of those columns alone.
GRANTS = {
    "ubp_reader": {
        "select": "installation, sources, users, items, events, feature_sets, feature_definitions, feature_rows, "
        "task_definitions, models, deployments, user_scores",
    },
    "ubp_loader": {
        "select": "installation, alembic_version, sources, loads, event_keys, rejected_events, users, items, events, "
        "feature_sets, feature_definitions, user_scores, job_runs",
        "insert": "sources, loads, event_keys, rejected_events, users, items, events",
        "update (map, user_keys, item_keys)": "sources",
        "update (rows_read, rows_loaded, rows_rejected, rows_already, finished_at)": "loads",
    },
    "ubp_analyst": {
        "select": "installation, alembic_version, feature_sets, feature_definitions, task_definitions, model_metrics, "
        "user_scores",
    },
    "ubp_auditor": {
        "select": "installation, sources, loads, event_keys, rejected_events, users, items, events, feature_sets, "
        "feature_definitions, feature_rows, task_definitions, models, deployments, model_metrics, user_scores, "
        "job_runs, alembic_version",
    },
}


def _grant() -> None:
    op.execute(f"grant usage on schema ubp to {ALL_ROLES}")
    for role, rights in GRANTS.items():
        for right, tables in rights.items():
            names = ", ".join(f"ubp.{table.strip()}" for table in tables.split(","))
            op.execute(f"grant {right} on {names} to {role}")


def upgrade() -> None:
    op.create_table(
        "event_keys",
        sa.Column("source_id", sa.Integer(), autoincrement=False, nullable=False, comment="source of the event"),
        sa.Column("event_key", sa.UUID(), nullable=False, comment="md5 of the key columns' values"),
        sa.PrimaryKeyConstraint("source_id", "event_key", name=op.f("event_keys_pkey")),
        schema="ubp",
        comment="Identity of loaded events whose map names key columns: a key is loaded once.",
    )
    op.create_table(
        "events",
        sa.Column(
            "event_id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="number of the event"
        ),
        sa.Column("user_id", sa.BigInteger(), nullable=False, comment="who"),
        sa.Column("event_time", sa.TIMESTAMP(timezone=True), nullable=False, comment="when it happened"),
        sa.Column(
            "kind", sa.Text(), nullable=False, comment="what: view, cart, purchase, cancel or any name of your own"
        ),
        sa.Column("item_id", sa.BigInteger(), nullable=True, comment="with which item"),
        sa.Column("value", sa.Double(), nullable=True, comment="worth in your currency; NaN counts as missing"),
        sa.Column("quantity", sa.REAL(), nullable=True, comment="how many"),
        sa.Column("duration_s", sa.REAL(), nullable=True, comment="how long, seconds"),
        sa.Column(
            "attributes",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="anything else; order_id names the order the event belongs to",
        ),
        sa.Column(
            "ingested_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when the database learnt of it: a past moment knows only what had arrived",
        ),
        sa.Column(
            "source",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="ubp.sources.source_id; 0 = plain INSERT",
        ),
        sa.Column(
            "tenant",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="owner of the row in a shared database; 0 = the only one",
        ),
        sa.CheckConstraint(
            "event_time >= '1900-01-01 00:00+00' and event_time < '2300-01-01 00:00+00'",
            name=op.f("events_event_time_check"),
        ),
        sa.PrimaryKeyConstraint("event_id", "event_time", name=op.f("events_pkey")),
        schema="ubp",
        comment="What users did: one row an event, partitioned by month; open to INSERT and COPY.",
        postgresql_partition_by="range (event_time)",
    )
    op.create_index(
        op.f("events_user_id_event_time_idx"), "events", ["user_id", "event_time"], unique=False, schema="ubp"
    )
    op.create_table(
        "feature_rows",
        sa.Column("feature_set_id", sa.Integer(), autoincrement=False, nullable=False, comment="set"),
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="user"),
        sa.Column(
            "features",
            postgresql.ARRAY(sa.REAL()),
            nullable=False,
            comment="values in the order of feature_definitions.position; NaN = NULL",
        ),
        sa.Column(
            "packed",
            postgresql.BYTEA(),
            nullable=False,
            comment="the same values as little-endian float32, which the scorer reads as they are",
        ),
        sa.Column("as_of", sa.TIMESTAMP(timezone=True), nullable=False, comment="moment of the values"),
        sa.Column(
            "valid_until",
            sa.TIMESTAMP(timezone=True),
            nullable=True,
            comment="when an event of the user next crosses a window's edge; NULL = not known",
        ),
        sa.Column(
            "tenant",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="owner of the row in a shared database; 0 = the only one",
        ),
        sa.PrimaryKeyConstraint("feature_set_id", "user_id", name=op.f("feature_rows_pkey")),
        schema="ubp",
        comment="One row a user and feature set: the features at the set's as_of, "
        "for people and packed for the scorer.",
    )
    op.create_table(
        "feature_sets",
        sa.Column(
            "feature_set_id", sa.Integer(), sa.Identity(always=False), nullable=False, comment="number of the set"
        ),
        sa.Column(
            "name", sa.Text(), nullable=False, comment="name; the view ubp.user_features shows the set called default"
        ),
        sa.Column("hash", sa.Text(), nullable=False, comment="sha256 of the definition; models are pinned to it"),
        sa.Column("definition", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="kinds and windows"),
        sa.Column(
            "time_zone", sa.Text(), server_default="UTC", nullable=False, comment="zone of as_of's own hour and weekday"
        ),
        sa.Column(
            "as_of",
            sa.TIMESTAMP(timezone=True),
            nullable=True,
            comment="the one moment the stored rows speak of; moved by refresh_features only",
        ),
        sa.Column("users", sa.BigInteger(), nullable=True, comment="users with a stored row"),
        sa.Column("refreshed_at", sa.TIMESTAMP(timezone=True), nullable=True, comment="when the rows were computed"),
        sa.Column(
            "created_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when the set was defined",
        ),
        sa.Column(
            "created_by",
            sa.Text(),
            server_default=sa.text("session_user"),
            nullable=False,
            comment="role that defined it",
        ),
        sa.PrimaryKeyConstraint("feature_set_id", name=op.f("feature_sets_pkey")),
        sa.UniqueConstraint("name", name=op.f("feature_sets_name_key")),
        schema="ubp",
        comment="A set of features computed together. Never changed: a changed definition is a new set.",
    )
    op.create_table(
        "installation",
        sa.Column("singleton", sa.Boolean(), server_default="true", nullable=False, comment="always true: one row"),
        sa.Column(
            "package_version", sa.Text(), nullable=False, comment="version of ubp_sql whose functions are installed"
        ),
        sa.Column(
            "made",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="{}",
            nullable=False,
            comment="what init created outside the schema: extension, roles, search_path "
            "(uninstall removes just these)",
        ),
        sa.Column(
            "applied_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when the functions were last applied",
        ),
        sa.PrimaryKeyConstraint("singleton", name=op.f("installation_pkey")),
        schema="ubp",
        comment="One row: which package version applied the functions, and what the installation itself created.",
    )
    op.create_table(
        "items",
        sa.Column(
            "item_id",
            sa.BigInteger(),
            sa.Identity(always=False, start=4000000000000000),
            nullable=False,
            comment="the key where every key of the source is an integer, else assigned",
        ),
        sa.Column("item_key", sa.Text(), nullable=False, comment="key text of the source"),
        sa.Column("title", sa.Text(), nullable=True, comment="what people call it"),
        sa.Column(
            "tenant",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="owner of the row in a shared database; 0 = the only one",
        ),
        sa.CheckConstraint(
            "item_id >= 4000000000000000 or item_key = item_id::text", name=op.f("items_item_key_check")
        ),
        sa.PrimaryKeyConstraint("item_id", name=op.f("items_pkey")),
        sa.UniqueConstraint("tenant", "item_key", name=op.f("items_tenant_item_key_key")),
        schema="ubp",
        comment="Items that loads have named, and the key text each had in its source.",
    )
    op.create_table(
        "job_runs",
        sa.Column(
            "job_id", sa.BigInteger(), sa.Identity(always=False, start=1), nullable=False, comment="number of the run"
        ),
        sa.Column("job", sa.Text(), nullable=False, comment="refresh_features or score_users"),
        sa.Column("state", sa.Text(), nullable=False, comment="done: a run that failed leaves no row"),
        sa.Column(
            "started_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="start",
        ),
        sa.Column("finished_at", sa.TIMESTAMP(timezone=True), nullable=True, comment="end"),
        sa.Column("rows", sa.BigInteger(), nullable=True, comment="rows written"),
        sa.Column(
            "detail",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="{}",
            nullable=False,
            comment="figures of the run",
        ),
        sa.Column("run_by", sa.Text(), server_default=sa.text("session_user"), nullable=False, comment="role"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("job_runs_pkey")),
        schema="ubp",
        comment="Refreshes and scorings of everybody that were done: when, by whom, how many rows.",
    )
    op.create_table(
        "rejected_events",
        sa.Column(
            "rejected_id",
            sa.BigInteger(),
            sa.Identity(always=False, start=1),
            nullable=False,
            comment="number of the row",
        ),
        sa.Column("load_id", sa.BigInteger(), nullable=False, comment="load that met it"),
        sa.Column("source_id", sa.Integer(), nullable=False, comment="source of the file"),
        sa.Column("file", sa.Text(), nullable=False, comment="file as named on the command line"),
        sa.Column("line", sa.BigInteger(), nullable=False, comment="line in the file, counted from 1"),
        sa.Column("reason", sa.Text(), nullable=False, comment="why it could not be used, in plain words"),
        sa.Column("raw", sa.Text(), nullable=True, comment="the row as it stood in the file"),
        sa.Column(
            "rejected_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when"
        ),
        sa.Column(
            "tenant",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="owner of the row in a shared database; 0 = the only one",
        ),
        sa.PrimaryKeyConstraint("rejected_id", name=op.f("rejected_events_pkey")),
        schema="ubp",
        comment="Rows that could not be used, with reason, file and line: nothing is dropped in silence.",
    )
    op.create_index(
        op.f("rejected_events_load_id_line_idx"), "rejected_events", ["load_id", "line"], unique=False, schema="ubp"
    )
    op.create_table(
        "sources",
        sa.Column(
            "source_id", sa.Integer(), sa.Identity(always=False), nullable=False, comment="number kept in events.source"
        ),
        sa.Column("name", sa.Text(), nullable=False, comment="name given in the load map"),
        sa.Column("kind", sa.Text(), server_default="file", nullable=False, comment="direct or file"),
        sa.Column(
            "time_zone",
            sa.Text(),
            server_default="UTC",
            nullable=False,
            comment="zone whose clock gives hour, weekday and day of this source's events",
        ),
        sa.Column(
            "user_keys",
            sa.Text(),
            nullable=True,
            comment="integer: the key is the user_id; text: ubp.users assigned it; set by the first load",
        ),
        sa.Column("item_keys", sa.Text(), nullable=True, comment="integer or text, likewise for items"),
        sa.Column("map", postgresql.JSONB(astext_type=sa.Text()), nullable=True, comment="the load map last used"),
        sa.Column(
            "created_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="first load",
        ),
        sa.Column(
            "tenant",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="owner of the row in a shared database; 0 = the only one",
        ),
        sa.CheckConstraint(
            "(timestamptz 'epoch' at time zone time_zone) is not null", name=op.f("sources_time_zone_check")
        ),
        sa.PrimaryKeyConstraint("source_id", name=op.f("sources_pkey")),
        sa.UniqueConstraint("name", name=op.f("sources_name_key")),
        schema="ubp",
        comment="Where events come from: one row a loaded feed; source 0 is plain INSERT and COPY.",
    )
    op.create_table(
        "user_scores",
        sa.Column("task", sa.Text(), nullable=False, comment="task"),
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="user"),
        sa.Column("score", sa.Double(), nullable=True, comment="score; NULL with a reason"),
        sa.Column("percentile", sa.Double(), nullable=True, comment="share of scored users with a lower score, 0-100"),
        sa.Column("reason", sa.Text(), nullable=True, comment="why there is no score"),
        sa.Column("version", sa.Integer(), nullable=False, comment="model version"),
        sa.Column("as_of", sa.TIMESTAMP(timezone=True), nullable=False, comment="moment of the features"),
        sa.Column(
            "scored_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when"
        ),
        sa.Column(
            "tenant",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="owner of the row in a shared database; 0 = the only one",
        ),
        sa.PrimaryKeyConstraint("task", "user_id", name=op.f("user_scores_pkey")),
        schema="ubp",
        comment="Stored scores of whole populations, written by ubp.score_users.",
    )
    op.create_table(
        "users",
        sa.Column(
            "user_id",
            sa.BigInteger(),
            sa.Identity(always=False, start=4000000000000000),
            nullable=False,
            comment="the key where every key of the source is an integer, else assigned",
        ),
        sa.Column("user_key", sa.Text(), nullable=False, comment="key text of the source"),
        sa.Column(
            "tenant",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="owner of the row in a shared database; 0 = the only one",
        ),
        sa.Column(
            "created_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="first seen by a load",
        ),
        sa.CheckConstraint(
            "user_id >= 4000000000000000 or user_key = user_id::text", name=op.f("users_user_key_check")
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("users_pkey")),
        sa.UniqueConstraint("tenant", "user_key", name=op.f("users_tenant_user_key_key")),
        schema="ubp",
        comment="Users that loads have named, and the key text each had in its source.",
    )
    op.create_table(
        "feature_definitions",
        sa.Column("feature_set_id", sa.Integer(), autoincrement=False, nullable=False, comment="set"),
        sa.Column(
            "position",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="place in feature_rows.features, from 1",
        ),
        sa.Column("name", sa.Text(), nullable=False, comment="column name in ubp.user_features"),
        sa.Column("family", sa.Text(), nullable=False, comment="aggregate it belongs to"),
        sa.Column("kind", sa.Text(), nullable=True, comment="event kind it counts"),
        sa.Column("window_days", sa.Integer(), nullable=True, comment="width of its window in days; NULL = lifetime"),
        sa.Column("unit", sa.Text(), nullable=False, comment="unit of the value"),
        sa.Column("meaning", sa.Text(), nullable=False, comment="what it says, in a sentence"),
        sa.Column("null_rule", sa.Text(), nullable=False, comment="when it is NULL"),
        sa.Column("sql_type", sa.Text(), nullable=False, comment="type of its column in ubp.user_features"),
        sa.ForeignKeyConstraint(
            ["feature_set_id"],
            ["ubp.feature_sets.feature_set_id"],
            name=op.f("feature_definitions_feature_set_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("feature_set_id", "position", name=op.f("feature_definitions_pkey")),
        sa.UniqueConstraint("feature_set_id", "name", name=op.f("feature_definitions_feature_set_id_name_key")),
        schema="ubp",
        comment="The features of each set: name, unit and meaning "
        "(ubp.feature_catalogue shows them with the set's name).",
    )
    op.create_table(
        "loads",
        sa.Column(
            "load_id", sa.BigInteger(), sa.Identity(always=False, start=1), nullable=False, comment="number of the load"
        ),
        sa.Column("source_id", sa.Integer(), nullable=False, comment="source of the file"),
        sa.Column("file", sa.Text(), nullable=False, comment="file as named on the command line"),
        sa.Column(
            "content_sha256",
            sa.Text(),
            nullable=False,
            comment="hash of the file's bytes: the same content is loaded once",
        ),
        sa.Column("rows_read", sa.BigInteger(), nullable=False, comment="rows found in the file"),
        sa.Column("rows_loaded", sa.BigInteger(), nullable=False, comment="rows written to ubp.events"),
        sa.Column("rows_rejected", sa.BigInteger(), nullable=False, comment="rows written to ubp.rejected_events"),
        sa.Column("rows_already", sa.BigInteger(), nullable=False, comment="rows whose keys were loaded before"),
        sa.Column(
            "started_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="start of the load",
        ),
        sa.Column("finished_at", sa.TIMESTAMP(timezone=True), nullable=True, comment="end of the load"),
        sa.Column(
            "loaded_by", sa.Text(), server_default=sa.text("session_user"), nullable=False, comment="role that ran it"
        ),
        sa.ForeignKeyConstraint(["source_id"], ["ubp.sources.source_id"], name=op.f("loads_source_id_fkey")),
        sa.PrimaryKeyConstraint("load_id", name=op.f("loads_pkey")),
        sa.UniqueConstraint("source_id", "content_sha256", name=op.f("loads_source_id_content_sha256_key")),
        schema="ubp",
        comment="One row a loaded file: rows_loaded + rows_rejected + rows_already = rows_read.",
    )
    op.create_table(
        "task_definitions",
        sa.Column("task", sa.Text(), nullable=False, comment="name; predict_<task> is made with the first deployment"),
        sa.Column("meaning", sa.Text(), nullable=False, comment="what a score says, in a sentence"),
        sa.Column("label_kind", sa.Text(), nullable=False, comment="label: an event of this kind within the horizon"),
        sa.Column(
            "population_kind",
            sa.Text(),
            nullable=False,
            comment="whom it is asked of: users with an event of this kind before",
        ),
        sa.Column("horizon", sa.Interval(), nullable=False, comment="how far ahead"),
        sa.Column("feature_set_id", sa.Integer(), nullable=False, comment="features it uses"),
        sa.Column(
            "created_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was defined",
        ),
        sa.ForeignKeyConstraint(
            ["feature_set_id"], ["ubp.feature_sets.feature_set_id"], name=op.f("task_definitions_feature_set_id_fkey")
        ),
        sa.PrimaryKeyConstraint("task", name=op.f("task_definitions_pkey")),
        schema="ubp",
        comment="What is predicted: the label, for whom, how far ahead (ubp.tasks shows them with their deployment).",
    )
    op.create_table(
        "models",
        sa.Column(
            "model_id",
            sa.BigInteger(),
            sa.Identity(always=False, start=1),
            nullable=False,
            comment="number of the model",
        ),
        sa.Column("task", sa.Text(), nullable=False, comment="task it answers"),
        sa.Column("version", sa.Integer(), nullable=False, comment="1, 2, ... within the task"),
        sa.Column("format", sa.Text(), nullable=False, comment="format of the source"),
        sa.Column("source", postgresql.BYTEA(), nullable=False, comment="the model as the trainer wrote it"),
        sa.Column("compiled", postgresql.BYTEA(), nullable=False, comment="flat form that the scorer reads"),
        sa.Column("compiled_sha256", sa.Text(), nullable=False, comment="hash of the compiled form"),
        sa.Column("feature_set_id", sa.Integer(), nullable=False, comment="feature set of its inputs"),
        sa.Column("feature_set_hash", sa.Text(), nullable=False, comment="hash of that set when the model was trained"),
        sa.Column("objective", sa.Text(), nullable=False, comment="what the score is"),
        sa.Column("trees", sa.Integer(), nullable=False, comment="number of trees"),
        sa.Column(
            "settings",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="{}",
            nullable=False,
            comment="settings of the training",
        ),
        sa.Column("data_from", sa.TIMESTAMP(timezone=True), nullable=True, comment="first training cut"),
        sa.Column(
            "data_until", sa.TIMESTAMP(timezone=True), nullable=True, comment="end of the last label window used"
        ),
        sa.Column("code_version", sa.Text(), nullable=False, comment="version of ubp_sql that registered it"),
        sa.Column(
            "created_by",
            sa.Text(),
            server_default=sa.text("session_user"),
            nullable=False,
            comment="role that registered it",
        ),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when"
        ),
        sa.ForeignKeyConstraint(
            ["feature_set_id"], ["ubp.feature_sets.feature_set_id"], name=op.f("models_feature_set_id_fkey")
        ),
        sa.ForeignKeyConstraint(["task"], ["ubp.task_definitions.task"], name=op.f("models_task_fkey")),
        sa.PrimaryKeyConstraint("model_id", name=op.f("models_pkey")),
        sa.UniqueConstraint("task", "version", name=op.f("models_task_version_key")),
        schema="ubp",
        comment="Registered models: source text, compiled form, lineage. Never changed once registered.",
    )
    op.create_table(
        "deployments",
        sa.Column(
            "deployment_id",
            sa.BigInteger(),
            sa.Identity(always=False, start=1),
            nullable=False,
            comment="number of the deployment",
        ),
        sa.Column("task", sa.Text(), nullable=False, comment="task"),
        sa.Column("model_id", sa.BigInteger(), nullable=False, comment="model"),
        sa.Column("version", sa.Integer(), nullable=False, comment="version of the model"),
        sa.Column("compiled_sha256", sa.Text(), nullable=False, comment="which compiled form a session must hold"),
        sa.Column("feature_set_id", sa.Integer(), nullable=False, comment="feature set the model reads"),
        sa.Column("feature_set_hash", sa.Text(), nullable=False, comment="hash of that set the model was trained on"),
        sa.Column(
            "population_position", sa.Integer(), nullable=False, comment="feature that must be at least 1 for a score"
        ),
        sa.Column(
            "deployed_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="from"
        ),
        sa.Column("deployed_by", sa.Text(), server_default=sa.text("session_user"), nullable=False, comment="role"),
        sa.Column("retired_at", sa.TIMESTAMP(timezone=True), nullable=True, comment="until; NULL = answers now"),
        sa.ForeignKeyConstraint(["model_id"], ["ubp.models.model_id"], name=op.f("deployments_model_id_fkey")),
        sa.ForeignKeyConstraint(["task"], ["ubp.task_definitions.task"], name=op.f("deployments_task_fkey")),
        sa.PrimaryKeyConstraint("deployment_id", name=op.f("deployments_pkey")),
        schema="ubp",
        comment="Which version answers for a task, now and before. A rollback is one more row.",
    )
    op.create_index(
        "deployments_task_live_idx",
        "deployments",
        ["task"],
        unique=True,
        schema="ubp",
        postgresql_where=sa.text("retired_at is null"),
    )
    op.create_table(
        "model_metrics",
        sa.Column("model_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="model"),
        sa.Column("cut", sa.TIMESTAMP(timezone=True), nullable=False, comment="moment of the test"),
        sa.Column(
            "metric", sa.Text(), nullable=False, comment="auc, pr_auc, log_loss, brier, calibration_error, lift_10"
        ),
        sa.Column("value", sa.Double(), nullable=False, comment="value"),
        sa.Column("n", sa.BigInteger(), nullable=False, comment="users tested"),
        sa.Column("positives", sa.BigInteger(), nullable=False, comment="of them with the label"),
        sa.Column("protocol", sa.Text(), nullable=False, comment="what was held out"),
        sa.ForeignKeyConstraint(["model_id"], ["ubp.models.model_id"], name=op.f("model_metrics_model_id_fkey")),
        sa.PrimaryKeyConstraint("model_id", "cut", "metric", name=op.f("model_metrics_pkey")),
        schema="ubp",
        comment="How well each model did on moments it had not seen.",
    )
    op.execute("create table ubp.events_default partition of ubp.events default")
    op.execute("comment on table ubp.events_default is 'Events of months without a partition of their own'")
    op.execute("comment on table ubp.alembic_version is 'Revision of the tables; written by migrations alone'")
    op.execute("comment on column ubp.alembic_version.version_num is 'the last migration that ran'")
    op.execute("insert into ubp.sources (source_id, name, kind) values (0, 'direct', 'direct')")
    # Compression would cost CPU at every read: a model is read whole, a feature row once a score.
    op.execute("alter table ubp.models alter column compiled set storage external")
    op.execute("alter table ubp.feature_rows alter column packed set storage external")
    _grant()


def downgrade() -> None:
    op.drop_table("model_metrics", schema="ubp")
    op.drop_index(
        "deployments_task_live_idx",
        table_name="deployments",
        schema="ubp",
        postgresql_where=sa.text("retired_at is null"),
    )
    op.drop_table("deployments", schema="ubp")
    op.drop_table("models", schema="ubp")
    op.drop_table("task_definitions", schema="ubp")
    op.drop_table("loads", schema="ubp")
    op.drop_table("feature_definitions", schema="ubp")
    op.drop_table("users", schema="ubp")
    op.drop_table("user_scores", schema="ubp")
    op.drop_table("sources", schema="ubp")
    op.drop_index(op.f("rejected_events_load_id_line_idx"), table_name="rejected_events", schema="ubp")
    op.drop_table("rejected_events", schema="ubp")
    op.drop_table("job_runs", schema="ubp")
    op.drop_table("items", schema="ubp")
    op.drop_table("installation", schema="ubp")
    op.drop_table("feature_sets", schema="ubp")
    op.drop_table("feature_rows", schema="ubp")
    op.drop_index(op.f("events_user_id_event_time_idx"), table_name="events", schema="ubp")
    op.drop_table("events", schema="ubp")
    op.drop_table("event_keys", schema="ubp")
