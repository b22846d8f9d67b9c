"""Training rows whose features are computed here: pairs, labels and events arrive over binary COPY."""

from collections.abc import Generator
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import psycopg
from psycopg import sql

from ubp_sql.features.compute import compute
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.labels import NEVER
from ubp_sql.training import rows
from ubp_sql.training.rows import Batch, Question
from ubp_sql.worker.ahead import Say, ahead, attempt
from ubp_sql.worker.choice import SERVER, Choose
from ubp_sql.worker.packed import definition_of, events_of

QUESTION = "select ubp.training_question(%s, %s)"
# In a subquery's list, a set-returning function hands out each row when it has it; in FROM, after the last one.
PAIRS = """copy (
select (b.batch).*
  from (select ubp.training_pairs({}, {}::timestamptz[], {}::interval, {}, {}::double precision) as batch
        offset 0) b) to stdout (format binary)"""
COLUMNS = 15
EVENTS_A_PAIR = 16
"""What a further moment of a user costs, in events of his first one."""
Connection = psycopg.Connection[Any]


class _Asked(NamedTuple):
    definition: FeatureSetDefinition
    holidays: Any  # (h,) int64
    whenever_known: bool
    events: int | None  # about how many there are; None: nobody knows


class _LeftToServer(Exception):
    """The first part shows that the server is sooner done."""


def batches(conn: Connection, question: Question, choose: Choose, say: Say = lambda line: None) -> Generator[Batch]:
    """As training.rows.batches.

    choose  the device for a part of so many events, of so many in all; SERVER of the first part: the server computes
            everything
    """
    row = conn.execute(QUESTION, [question.task, question.known_at]).fetchone()
    said = row[0] if row else {}
    if why := said["by_server"]:
        say(f"{why}: the server computes the rows")
    else:
        asked = _Asked(
            definition_of(said), np.array(said["holidays"], np.int64), said["whenever_known"], said["events"]
        )
        try:
            # Taken back where it is left to the server, which a transaction around may not be.
            with conn.transaction():
                yield from _computed(conn, question, asked, choose, say)
            return
        except _LeftToServer:
            pass
    yield from rows.batches(conn, question)


def _computed(conn: Connection, question: Question, asked: _Asked, choose: Choose, say: Say) -> Generator[Batch]:
    cuts = None if question.cuts is None else [cut.isoformat() for cut in question.cuts]
    arguments = (question.task, cuts, question.horizon, question.known_at, question.negatives)
    begun = False
    with conn.cursor() as cursor, cursor.copy(sql.SQL(PAIRS).format(*map(sql.Literal, arguments))) as copy:
        copy.set_types(["bytea"] * COLUMNS)
        with closing(ahead(copy.rows())) as found:
            for users, times, labels, matured, weights, place, local, *packed in found:
                if packed[0] is not None:
                    events = events_of(packed, asked.definition)
                user, cuts_us, local_us = (np.frombuffer(raw, np.int64) for raw in (place, times, local))
                size = len(events.t_us) + EVENTS_A_PAIR * len(user)
                parts = max(1, (asked.events or 0) // max(1, len(events.t_us)))
                device = choose(size, parts * size)
                if device == SERVER:
                    if not begun:
                        raise _LeftToServer
                    device = None  # its events are here already
                begun = True
                known = np.full(len(user), NEVER) if asked.whenever_known else None
                work = partial(compute, events, asked.definition, user, cuts_us, local_us, known)
                made = attempt(device, partial(work, holidays=asked.holidays), say)
                yield Batch(
                    np.frombuffer(users, "<i8"),
                    cuts_us,
                    rows.labels_of(labels, len(user)),
                    np.frombuffer(matured, np.bool_),
                    np.frombuffer(weights, "<f4"),
                    made.features,
                )
