"""What the table modules share: the metadata, the naming of constraints, and columns with their comment beside them."""

from typing import Any

import sqlalchemy as sa

SCHEMA = "ubp"

metadata = sa.MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    },
)
TIME = sa.TIMESTAMP(timezone=True)
NOW = sa.text("now()")


def column(name: str, kind: Any, comment: str, *rest: Any, **options: Any) -> sa.Column[Any]:
    """A column whose comment stands beside its type."""
    return sa.Column(name, kind, *rest, comment=comment, **options)


def identity(name: str, comment: str, start: int = 1) -> sa.Column[Any]:
    return column(name, sa.BigInteger(), comment, sa.Identity(always=False, start=start), primary_key=True)


def model_key(of: str = "models") -> sa.Column[Any]:
    """Part of the key of what is said of a model, and goes with its row of the table `of`."""
    model = sa.ForeignKey(f"{SCHEMA}.{of}.model_id", ondelete="CASCADE")
    return column("model_id", sa.BigInteger(), "model", model, primary_key=True, autoincrement=False)


def tenant() -> sa.Column[Any]:
    comment = "owner of the row in a shared database; 0 = the only one"
    return column("tenant", sa.Integer(), comment, nullable=False, server_default="0")


def table(name: str, comment: str, *parts: Any, **options: Any) -> sa.Table:
    return sa.Table(name, metadata, *parts, comment=comment, **options)
