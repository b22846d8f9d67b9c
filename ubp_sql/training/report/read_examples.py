"""Single users that show what a model does, with the reasons of their scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg

from ubp_sql.install import state
from ubp_sql.training.report import words
from ubp_sql.training.report.facts import Example, Group, HeldOut, Reason, Scored, Task

Connection = psycopg.Connection[Any]
TOP = 4

# Equal scores by the user's number, so that a report of the same scores shows the same users.
HIGHEST = """
select user_id, score, percentile from ubp.user_scores where task = %s and score is not null
 order by score desc, user_id limit %s"""
LOWEST = """
select user_id, score, percentile from ubp.user_scores where task = %s and score is not null
 order by score, user_id limit %s"""
MIDDLE = """
select user_id, score, percentile from ubp.user_scores where task = %s and score is not null
 order by abs(percentile - 50), user_id limit %s"""
KEYS = "select user_id, user_key from ubp.users where user_id = any (%s)"
REASONS = """
select user_id, rank, value, typical, meaning from ubp.explain_many(%s, %s, %s)
 where rank > 0 order by user_id, rank"""
REASONS_AT = """
select u.user_id, e.rank, e.value, e.typical, e.meaning
  from unnest(%s::bigint[]) u (user_id), ubp.explain(%s, u.user_id, %s::timestamptz, %s) e
 where e.rank > 0 order by u.user_id, e.rank"""


def groups(
    conn: Connection, task: Task, scored: Scored | None, version: int, tests: Sequence[HeldOut], most: int
) -> list[Group]:
    """Users with high, middling and low stored scores, if this version answers, and surprises of the newest test.

    most  users a group; 0: no group
    """
    if most == 0:
        return []
    found = []
    answers = version == task.deployed_version
    if scored is not None and answers:
        parts = {
            "The highest scores": state.rows(conn, HIGHEST, task.name, most),
            "In the middle": state.rows(conn, MIDDLE, task.name, most),
            "The lowest scores": state.rows(conn, LOWEST, task.name, most),
        }
        for title, rows in parts.items():
            found.append(Group(title, "", [Example(r["user_id"], "", r["score"], r["percentile"]) for r in rows]))
        examples = _of(found)
        if examples:
            _explain(examples, state.rows(conn, REASONS, task.name, [one.user_id for one in examples], TOP))
    if tests:
        surprises = _surprises(tests[-1], task, most)
        examples = _of(surprises)
        if answers and examples:
            users = [one.user_id for one in examples]
            _explain(examples, state.rows(conn, REASONS_AT, users, task.name, tests[-1].cut, TOP))
        found += surprises
    _name(conn, _of(found))
    return [group for group in found if group.examples]


def _of(groups: Sequence[Group]) -> list[Example]:
    return [example for group in groups for example in group.examples]


def _surprises(test: HeldOut, task: Task, most: int) -> list[Group]:
    at = words.day(test.cut)
    if task.amount:
        apart = test.scores - test.labels
        over, under = np.lexsort((test.users, -apart)), np.lexsort((test.users, apart))
        parts = [
            (
                "Far less than predicted",
                f"The largest overestimates at {at}; reasons of the version that answers.",
                over[apart[over] > 0],
            ),
            (
                "Far more than predicted",
                f"The largest underestimates at {at}; reasons of the version that answers.",
                under[apart[under] < 0],
            ),
        ]
    else:
        down, up = np.lexsort((test.users, -test.scores)), np.lexsort((test.users, test.scores))
        parts = [
            (
                "Surprises: high score, and did not",
                f"Scores at {at}, before what happened was known; reasons of the version that answers.",
                down[test.labels[down] == 0],
            ),
            (
                "Surprises: low score, and did",
                f"Scores at {at}, before what happened was known; reasons of the version that answers.",
                up[test.labels[up] == 1],
            ),
        ]
    return [
        Group(
            title,
            said,
            [
                Example(int(test.users[k]), "", float(test.scores[k]), None, float(test.labels[k]))
                for k in order[:most].tolist()
            ],
        )
        for title, said, order in parts
    ]


def _explain(examples: Sequence[Example], rows: Sequence[dict[str, Any]]) -> None:
    reasons: dict[int, list[Reason]] = {}
    for row in rows:
        reasons.setdefault(row["user_id"], []).append(Reason(row["meaning"], row["value"], row["typical"]))
    for example in examples:
        example.reasons = reasons.get(example.user_id, [])


def _name(conn: Connection, examples: Sequence[Example]) -> None:
    users = [example.user_id for example in examples]
    keys = {row["user_id"]: row["user_key"] for row in state.rows(conn, KEYS, users)}
    for example in examples:
        example.key = keys.get(example.user_id, str(example.user_id))
