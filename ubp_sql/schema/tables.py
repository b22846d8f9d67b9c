"""The first tables of schema `ubp`: events and who they speak of, feature sets and their rows, jobs.

The present shape, which migrations build step by step. A test compares the metadata with a migrated database, so
neither can drift. Comments reach `\\d+`.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB, REAL, UUID

from ubp_sql.schema.base import NOW, TIME, column, identity, table, tenant

# Assigned ids start far above any key that shops use as a number and below 2**53, where doubles stop being exact.
FIRST_ASSIGNED_ID = 4_000_000_000_000_000

installation = table(
    "installation",
    "One row: which package version applied the functions, and what the installation itself created.",
    column(
        "singleton",
        sa.Boolean(),
        "always true: one row",
        sa.CheckConstraint("singleton", name="singleton"),
        primary_key=True,
        server_default="true",
    ),
    column("package_version", sa.Text(), "version of ubp_sql whose functions are installed", nullable=False),
    column(
        "made",
        JSONB(),
        "what init created outside the schema: extension, roles, search_path (uninstall removes just these)",
        nullable=False,
        server_default="{}",
    ),
    column("applied_at", TIME, "when the functions were last applied", nullable=False, server_default=NOW),
)

sources = table(
    "sources",
    "Where events come from: one row a loaded feed or attached relation; source 0 is plain INSERT and COPY.",
    column("source_id", sa.Integer(), "number kept in events.source", sa.Identity(always=False), primary_key=True),
    column("name", sa.Text(), "name given in the load map", nullable=False, unique=True),
    column("kind", sa.Text(), "direct, file or attached", nullable=False, server_default="file"),
    column(
        "time_zone",
        sa.Text(),
        "zone whose clock gives hour, weekday and day of this source's events",
        nullable=False,
        server_default="UTC",
    ),
    column(
        "user_keys", sa.Text(), "integer: the key is the user_id; text: ubp.users assigned it; set by the first load"
    ),
    column("item_keys", sa.Text(), "integer or text, likewise for items"),
    column("map", JSONB(), "the load map last used, or what ubp.attach_source was given"),
    column("created_at", TIME, "first load", nullable=False, server_default=NOW),
    tenant(),
    # A zone that the server does not know raises 22023 here; in a refresh it would stop everybody's.
    sa.CheckConstraint("(timestamptz 'epoch' at time zone time_zone) is not null", name="time_zone"),
)

loads = table(
    "loads",
    "One row a loaded file: rows_loaded + rows_rejected + rows_already = rows_read.",
    identity("load_id", "number of the load"),
    column("source_id", sa.Integer(), "source of the file", sa.ForeignKey("ubp.sources.source_id"), nullable=False),
    column("file", sa.Text(), "file as named on the command line", nullable=False),
    column(
        "content_sha256", sa.Text(), "hash of the decompressed content: the same content is loaded once", nullable=False
    ),
    column("rows_read", sa.BigInteger(), "rows found in the file", nullable=False),
    column("rows_loaded", sa.BigInteger(), "rows written to ubp.events", nullable=False),
    column("rows_rejected", sa.BigInteger(), "rows written to ubp.rejected_events", nullable=False),
    column("rows_already", sa.BigInteger(), "rows whose keys were loaded before", nullable=False),
    column("started_at", TIME, "start of the load", nullable=False, server_default=NOW),
    column("finished_at", TIME, "end of the load; NULL: it was broken off, a rerun goes on"),
    column("loaded_by", sa.Text(), "role that ran it", nullable=False, server_default=sa.text("session_user")),
    column(
        "rows_anonymous",
        sa.BigInteger(),
        "of rows_loaded those without a user, in ubp.anonymous_events",
        nullable=False,
        server_default="0",
    ),
    column("continues", sa.BigInteger(), "load of the file's beginning, behind which it went on"),
    sa.UniqueConstraint("source_id", "content_sha256"),
)

event_keys = table(
    "event_keys",
    "Identity of loaded events whose map names key columns: a key is loaded once.",
    column("source_id", sa.Integer(), "source of the event", primary_key=True, autoincrement=False),
    column("event_key", UUID(), "md5 of the key columns' values", primary_key=True),
    column("load_id", sa.BigInteger(), "load that brought it; NULL: an older release"),
)

rejected_events = table(
    "rejected_events",
    "Rows that could not be used, with reason, file and line: nothing is dropped in silence.",
    identity("rejected_id", "number of the row"),
    column("load_id", sa.BigInteger(), "load that met it", nullable=False),
    column("source_id", sa.Integer(), "source of the file", nullable=False),
    column("file", sa.Text(), "file as named on the command line", nullable=False),
    column("line", sa.BigInteger(), "line in the file, counted from 1", nullable=False),
    column("reason", sa.Text(), "why it could not be used, in plain words", nullable=False),
    column("raw", sa.Text(), "the row as it stood in the file"),
    column("rejected_at", TIME, "when", nullable=False, server_default=NOW),
    tenant(),
    sa.Index(None, "load_id", "line"),
)

users = table(
    "users",
    "Users that loads have named, and the key text each had in its source.",
    identity("user_id", "the key where every key of the source is an integer, else assigned", start=FIRST_ASSIGNED_ID),
    column("user_key", sa.Text(), "key text of the source", nullable=False),
    tenant(),
    column("created_at", TIME, "first seen by a load", nullable=False, server_default=NOW),
    sa.UniqueConstraint("tenant", "user_key"),
    # A number below the assigned ids belongs to the key that reads so: nobody can give it to another key.
    sa.CheckConstraint("user_id >= 4000000000000000 or user_key = user_id::text", name="user_key"),
)

items = table(
    "items",
    "Items that loads have named, and the key text each had in its source.",
    identity("item_id", "the key where every key of the source is an integer, else assigned", start=FIRST_ASSIGNED_ID),
    column("item_key", sa.Text(), "key text of the source", nullable=False),
    column("title", sa.Text(), "what people call it"),
    tenant(),
    sa.UniqueConstraint("tenant", "item_key"),
    sa.CheckConstraint("item_id >= 4000000000000000 or item_key = item_id::text", name="item_key"),
)

events = table(
    "events",
    "What users did: one row an event, partitioned by month; open to INSERT and COPY.",
    column("event_id", sa.BigInteger(), "number of the event", sa.Identity(always=False), primary_key=True),
    column("user_id", sa.BigInteger(), "who", nullable=False),
    column("event_time", TIME, "when it happened", primary_key=True),
    column("kind", sa.Text(), "what: view, cart, purchase, cancel or any name of your own", nullable=False),
    column("item_id", sa.BigInteger(), "with which item"),
    column("value", sa.Double(), "worth in your currency; NaN counts as missing"),
    column("quantity", REAL(), "how many"),
    column("duration_s", REAL(), "how long, seconds"),
    column("attributes", JSONB(), "anything else; order_id names the order the event belongs to"),
    column(
        "ingested_at",
        TIME,
        "when the database learnt of it: a past moment knows only what had arrived",
        nullable=False,
        server_default=NOW,
    ),
    column("source", sa.Integer(), "ubp.sources.source_id; 0 = plain INSERT", nullable=False, server_default="0"),
    tenant(),
    # Finite and of our era: an infinite or absurd time would put an event into every window or into none.
    sa.CheckConstraint("event_time >= '1900-01-01 00:00+00' and event_time < '2300-01-01 00:00+00'", name="event_time"),
    sa.Index(None, "user_id", "event_time"),
    postgresql_partition_by="range (event_time)",
)

feature_sets = table(
    "feature_sets",
    "A set of features computed together. It only grows: a changed definition is a new set.",
    column("feature_set_id", sa.Integer(), "number of the set", sa.Identity(always=False), primary_key=True),
    column(
        "name", sa.Text(), "name; the view ubp.user_features shows the set called default", nullable=False, unique=True
    ),
    column("hash", sa.Text(), "sha256 of the definition; models are pinned to it", nullable=False),
    column("definition", JSONB(), "what the features are, as ubp-sql features export shows it", nullable=False),
    column("time_zone", sa.Text(), "zone of as_of's own hour and weekday", nullable=False, server_default="UTC"),
    column("as_of", TIME, "the one moment the stored rows speak of; moved by refresh_features only"),
    column("users", sa.BigInteger(), "users with a stored row"),
    column("refreshed_at", TIME, "when the rows were computed"),
    column("created_at", TIME, "when the set was defined", nullable=False, server_default=NOW),
    column("created_by", sa.Text(), "role that defined it", nullable=False, server_default=sa.text("session_user")),
    column("plan", BYTEA(), "the definition as the kernels read it; NULL = made anew when it is needed"),
    column("stale", sa.Boolean(), "the next refresh computes everybody", nullable=False, server_default="true"),
    column("as_of_us", sa.BigInteger(), "as_of in microseconds since 1970 UTC"),
    column("as_of_weekday", sa.SmallInteger(), "as_of's local weekday, Monday 0"),
)

feature_definitions = table(
    "feature_definitions",
    "The features of each set: name, unit and meaning (ubp.feature_catalogue shows them with the set's name).",
    column(
        "feature_set_id",
        sa.Integer(),
        "set",
        sa.ForeignKey("ubp.feature_sets.feature_set_id"),
        primary_key=True,
        autoincrement=False,
    ),
    column("position", sa.Integer(), "place in feature_rows.features, from 1", primary_key=True, autoincrement=False),
    column("name", sa.Text(), "column name in ubp.user_features", nullable=False),
    column("family", sa.Text(), "aggregate", nullable=False),
    column("kind", sa.Text(), "event kind it is about; several with a comma between"),
    column("window_days", sa.Integer(), "width of its window in days; NULL = lifetime, or see time_window"),
    column("unit", sa.Text(), "unit of the value", nullable=False),
    column("meaning", sa.Text(), "what it says, in a sentence", nullable=False),
    column("null_rule", sa.Text(), "when it is NULL", nullable=False),
    column("sql_type", sa.Text(), "type of its column in ubp.user_features", nullable=False),
    column("time_window", sa.Text(), "window as it is written: 7d, 36h, all, last 5, 4 x 7d"),
    column("edge_rule", sa.Text(), "which events the window takes"),
    column("cost", sa.Text(), "which events are looked at, and the bytes of each"),
    column("spec", JSONB(), "its definition; several columns of one definition have the same"),
    column("sql_oracle", sa.Text(), "plain SQL that gives the value of every user at the set's as_of"),
    sa.UniqueConstraint("feature_set_id", "name"),
)

feature_rows = table(
    "feature_rows",
    "One row a user and feature set: the features at the row's as_of.",
    column("feature_set_id", sa.Integer(), "set", primary_key=True, autoincrement=False),
    column("user_id", sa.BigInteger(), "user", primary_key=True, autoincrement=False),
    column(
        "features", ARRAY(REAL()), "values in the order of feature_definitions.position; NaN = NULL", nullable=False
    ),
    column(
        "as_of",
        TIME,
        "moment of the values; features that age are finished at the set's as_of when they are read",
        nullable=False,
    ),
    column("valid_until", TIME, "the last moment up to which no event of the user enters or leaves a window"),
    tenant(),
    column(
        "anchors",
        ARRAY(sa.Double()),
        "times and sums that ageing features are finished from; the set's plan says which",
    ),
)

job_runs = table(
    "job_runs",
    "Refreshes and scorings of everybody: when, by whom, how many rows.",
    identity("job_id", "number of the run"),
    column("job", sa.Text(), "refresh_features, score_users, training_set or check_quality", nullable=False),
    column(
        "state",
        sa.Text(),
        "done, running or failed; one transaction that failed leaves no row",
        nullable=False,
    ),
    column("started_at", TIME, "start", nullable=False, server_default=sa.text("clock_timestamp()")),
    column("finished_at", TIME, "end"),
    column("rows", sa.BigInteger(), "rows written"),
    column("detail", JSONB(), "figures of the run", nullable=False, server_default="{}"),
    column("run_by", sa.Text(), "role", nullable=False, server_default=sa.text("session_user")),
)
