"""Chunks of a refresh in steps, computed here: events arrive over binary COPY while the chunk before is computed."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.events import Events
from ubp_sql.features.known import Computed, compute_known
from ubp_sql.worker.ahead import Say, ahead, attempt
from ubp_sql.worker.choice import SERVER, Choose
from ubp_sql.worker.packed import definition_of, events_of

QUESTION = "select ubp.refresh_question(%s)"
# As in training.py: in FROM, all rows would be written to a temporary file before the first one leaves.
EVENTS = """copy (
select (b.part).* from (select ubp.refresh_events({}, {}) as part offset 0) b) to stdout (format binary)"""
EVENT_TYPES = ["integer", *["bytea"] * 8]
STORE = "select ubp.store_refreshed(%b, %b::integer, %b::bytea[], %b, %b::double precision)"
Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Chunk:
    """Users of a job whose features are to be computed; `parts`: their events."""

    number: int
    parts: list[Events]

    @property
    def events(self) -> int:
        return sum(len(part.t_us) for part in self.parts)


@dataclass(frozen=True)
class Question:
    """What a job computes, of so many chunks."""

    definition: FeatureSetDefinition
    us: int
    local_us: int
    holidays: Any  # (h,) int64
    chunks: int
    events: int | None  # about how many those of the users that are left have; None: nobody knows

    def answer(self, chunk: Chunk) -> list[bytes]:
        """The chunk's rows: the columns of Computed as bytes."""
        made = [self._of(part) for part in chunk.parts]
        if not made:
            return [b""] * len(Computed._fields)
        return [np.concatenate(column).tobytes() for column in zip(*made, strict=True)]

    def _of(self, events: Events) -> Computed:
        which = np.arange(len(events.user_id))
        return compute_known(events, self.definition, which, self.us, self.local_us, self.holidays, lambda: None)


def ask(conn: Connection, job: int) -> Question:
    """What the job computes. Raises NotReady (UB005), from the server, where it is over."""
    row = conn.execute(QUESTION, [job]).fetchone()
    said = row[0] if row else {}
    holidays = np.array(said["holidays"], np.int64)
    return Question(definition_of(said), said["us"], said["local_us"], holidays, said["chunks"], said["events"])


def chunks(conn: Connection, job: int, definition: FeatureSetDefinition, start: int = 0) -> Iterator[Chunk]:
    """The chunks that nobody has computed yet: those after number `start`, then the others."""
    after = start
    while (found := _fetch(conn, job, after, definition)) is not None:
        yield found
        after = found.number
    after = 0
    while after < start and (found := _fetch(conn, job, after, definition)) is not None and found.number <= start:
        yield found
        after = found.number


def _fetch(conn: Connection, job: int, after: int, definition: FeatureSetDefinition) -> Chunk | None:
    found, parts = 0, []
    with conn.cursor() as cursor, cursor.copy(sql.SQL(EVENTS).format(sql.Literal(job), sql.Literal(after))) as copy:
        copy.set_types(EVENT_TYPES)
        for number, *packed in copy.rows():
            found = number
            if packed[0] is not None:
                parts.append(events_of(packed, definition))
    return Chunk(found, parts) if found else None


def compute_chunks(
    conn: Connection,
    reading: Connection,
    job: int,
    choose: Choose,
    *,
    done: Callable[[Chunk, int], None] = lambda chunk, of: None,
    say: Say = lambda line: None,
    stop: Callable[[], bool] = lambda: False,
    start: Callable[[int], int] = lambda chunks: 0,
) -> int:
    """Computes and stores what is left of a job but its last step; returns how many chunks it was.

    conn     stores, a transaction a chunk; autocommit
    reading  another connection, over which the next chunk's events arrive meanwhile
    choose   the device for a chunk of so many events, of so many in all; SERVER: this chunk and those after it are left
             to the server
    done     called with each chunk whose rows are in the server, and how many the job has
    stop     asked between chunks
    start    gives the number of the chunk to begin after: workers that begin apart do not compute the same
    """
    question, count = ask(conn, job), 0
    if question.events is not None and choose(question.events, question.events) == SERVER:
        return 0
    first = start(question.chunks)
    try:
        with closing(ahead(chunks(reading, job, question.definition, first))) as found:
            for chunk in found:
                device = choose(chunk.events, question.events or chunk.events)
                if stop() or device == SERVER:
                    break
                count += _compute(conn, job, question, chunk, device, say)
                done(chunk, question.chunks)
                if stop():
                    break
    except KeyboardInterrupt:
        reading.cancel_safe()
        raise
    return count


def _compute(conn: Connection, job: int, question: Question, chunk: Chunk, device: str | None, say: Say) -> bool:
    """Whether the chunk's rows were stored: somebody else may have been sooner."""
    started = time.perf_counter()
    columns = attempt(device, lambda: question.answer(chunk), say)
    seconds = time.perf_counter() - started
    row = conn.execute(STORE, [job, chunk.number, columns, chunk.events, seconds]).fetchone()
    return bool(row and row[0])
