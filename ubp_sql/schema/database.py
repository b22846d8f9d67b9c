"""Everything that schema `ubp` holds, as one metadata: what migrations are compared with."""

from ubp_sql.schema import (
    calibration_tables,
    catalogue_tables,
    decision_tables,
    item_tables,
    load_tables,
    mirror_tables,
    model_tables,
    quality_tables,
    refresh_tables,
    source_tables,
    standing_tables,
    study_tables,
    tables,
    user_tables,
)
from ubp_sql.schema.base import SCHEMA, metadata

__all__ = [
    "SCHEMA",
    "calibration_tables",
    "catalogue_tables",
    "decision_tables",
    "item_tables",
    "load_tables",
    "metadata",
    "mirror_tables",
    "model_tables",
    "quality_tables",
    "refresh_tables",
    "source_tables",
    "standing_tables",
    "study_tables",
    "tables",
    "user_tables",
]
