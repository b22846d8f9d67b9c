"""Studies of models that were just trained or are scored for the first time: what explanations compare users with."""

from collections.abc import Callable
from typing import Any

import psycopg

from ubp_sql.install import state

Connection = psycopg.Connection[Any]
STUDY = "select ubp.study_model(%s, %s)"
UNSTUDIED = """
select d.version from ubp.deployed_versions d
 where d.task = %s and d.role in ('champion', 'challenger')
   and not exists (select from ubp.feature_importance i where i.task = d.task and i.version = d.version)
 order by d.version"""


def study_version(conn: Connection, task: str, version: int | None, say: Callable[[str], None]) -> None:
    """Studies a version. Where that is not possible yet, or never, it is said: a model without a study answers too."""
    try:
        state.rows(conn, STUDY, task, version)
    except psycopg.Error as error:
        if not (error.sqlstate or "").startswith("UB"):
            raise
        reason = (error.diag.message_primary or "").removeprefix("ubp: ")
        say(f"version {version} is not studied: {reason} ({error.diag.message_hint})")


def study_unstudied(conn: Connection, task: str, say: Callable[[str], None]) -> None:
    """Studies the versions that answer for a task and were not studied yet."""
    for row in state.rows(conn, UNSTUDIED, task):
        study_version(conn, task, row["version"], say)
