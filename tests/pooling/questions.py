"""What a session may be asked, each in its own words; the answers tell whether two sessions know the same."""

from typing import Any

import psycopg

from tests.api.helpers import Connection
from tests.serving_shop import SAID, SCAN

MOMENT = "timestamptz '2025-07-01 00:00+00'"
QUESTIONS = (
    SCAN,
    SAID,
    "select ubp.predict_purchase(7), ubp.predict_purchase('7'), ubp.predict('purchase', 10)",
    f"select ubp.predict('purchase', 7, {MOMENT}), ubp.predict_purchase('8', {MOMENT})",
    "select * from ubp.predict_detail('purchase', 7)",
    f"select * from ubp.predict_detail('purchase', '7', {MOMENT})",
    "select * from ubp.features(7)",
    f"select * from ubp.features(7, {MOMENT})",
    f"select ubp.feature_vector(11, {MOMENT})",
    f"select ubp.sequence(7, 3, {MOMENT})",
    f"select users, lengths from ubp.sequence_matrix(3, {MOMENT})",
    "select ubp.score('purchase', array_fill(2::float8, array[cardinality(features)])) from ubp.feature_rows limit 1",
    "select * from ubp.parity_check(400)",
    "select * from ubp.tasks",
    "select feature, position, sql_oracle from ubp.feature_catalogue order by position",
    "select task, version, deployed from ubp.model_versions order by version",
    "select count(*) from ubp.user_features",
)


def answers(
    conn: Connection,
    questions: tuple[str, ...] = QUESTIONS,
    *,
    savepoints: bool = False,
    prepare: bool | None = None,
) -> list[Any]:
    """Rows, or the error's state; an error leaves a transaction usable if each question has a savepoint."""
    said: list[Any] = []
    for question in questions:
        if savepoints:
            conn.execute("savepoint question")
        try:
            said.append(conn.execute(question.encode(), prepare=prepare, binary=True).fetchall())
        except psycopg.Error as error:
            said.append((error.sqlstate, error.diag.message_primary))
            if savepoints:
                conn.execute("rollback to question")
    return said
