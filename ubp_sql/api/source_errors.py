"""Errors of a relation that is attached no more as it was: one of ours in place of the server's, with the way out."""

from __future__ import annotations

from ubp_sql.api.session import sqlstate
from ubp_sql.errors import SourceChanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# A relation, schema, column or function is gone or has another type, or may not be read.
CODES = {"42P01", "3F000", "42703", "42883", "42804", "42846", "42809", "42501"}
# Of a partition without triggers what comes through the whole is heard.
PROBLEMS = """
select p.source, p.problem, p.way_out from ubp.source_problems() p
 where p.problem not like 'statements that name %'"""
FIRST_PROBLEM = PROBLEMS + " limit 1"


def source_changed(plpy: Any, error: Any) -> SourceChanged | None:
    """What became of an attached source, where that is why the server refused."""
    if sqlstate(error) not in CODES:
        return None
    try:
        found = plpy.execute(FIRST_PROBLEM)
    except plpy.SPIError:
        return None
    for row in found:
        return SourceChanged(f"source {row['source']}: {row['problem']}", row["way_out"])
    return None
