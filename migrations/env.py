"""Alembic environment: renders the SQL of the migrations, or compares the metadata with a database (autogenerate)."""

from typing import Any

from alembic import context

from ubp_sql.schema.database import SCHEMA, metadata

OPTIONS: dict[str, Any] = {
    "target_metadata": metadata,
    "version_table": "alembic_version",
    "version_table_schema": SCHEMA,
    "include_schemas": True,
    # One transaction around everything is opened by whoever runs the SQL: the DBA's psql or `ubp-sql migrate apply`.
    "transactional_ddl": False,
}

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, **OPTIONS)
else:
    context.configure(connection=context.config.attributes["connection"], compare_type=True, **OPTIONS)
with context.begin_transaction():
    context.run_migrations()
