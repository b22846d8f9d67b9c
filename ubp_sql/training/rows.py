"""Training rows out of the server: the features the server computes, never a second implementation of them."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import psycopg
from numpy.typing import NDArray

# In a subquery's list, a set-returning function hands out each batch when it has it; in FROM, after the last one.
QUERY = """
select (b.batch).* from (select ubp.training_matrix(%s, %s::timestamptz[], %s::interval, %s, %s) as batch
                         offset 0) b"""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
Labels = NDArray[np.uint8] | NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """What ubp.training_matrix is asked.

    cuts       None: at every event
    horizon    None: the task's
    known_at   'cut' or 'now'
    negatives  share of the negatives to keep; None: all
    """

    task: str
    cuts: Sequence[datetime] | None
    horizon: timedelta | None = None
    known_at: str = "cut"
    negatives: float | None = None


@dataclass(frozen=True)
class Batch:
    """Rows as they come, in ascending order of (user, cut).

    user_ids  (n,) int64
    cuts_us   (n,) int64    microseconds since 1970 UTC
    labels    (n,) uint8    1: the label happened within the horizon, as far as seen; float64 of a task of amounts
    matured   (n,) bool     all of the horizon has been seen
    weights   (n,) float32
    features  (n, f) float32, NaN = NULL
    """

    user_ids: NDArray[np.int64]
    cuts_us: NDArray[np.int64]
    labels: Labels
    matured: NDArray[np.bool_]
    weights: NDArray[np.float32]
    features: NDArray[np.float32]


@dataclass(frozen=True)
class CutRows:
    """The population at one cut.

    user_ids  (n,) int64
    labels    (n,) uint8    1: the label happened within the horizon, as far as seen; float64 of a task of amounts
    features  (n, f) float32
    matured   all of the horizon has been seen
    """

    cut: datetime
    matured: bool
    user_ids: NDArray[np.int64]
    labels: Labels
    features: NDArray[np.float32]


def batches(conn: psycopg.Connection[Any], question: Question) -> Generator[Batch]:
    """Rows as the server computes them, some ten megabytes at a time; whoever stops taking them stops the server."""
    cuts = None if question.cuts is None else list(question.cuts)
    arguments = [question.task, cuts, question.horizon, question.known_at, question.negatives]
    with conn.cursor() as cursor:
        # psycopg declares an iterator; closing the generator that it is cancels what the server still computes.
        stream = cast("Generator[tuple[bytes, ...]]", cursor.stream(QUERY, arguments, binary=True))
        with closing(stream) as found:
            for users, times, labels, matured, weights, packed in found:
                ids = np.frombuffer(users, "<i8")
                yield Batch(
                    ids,
                    np.frombuffer(times, "<i8"),
                    labels_of(labels, len(ids)),
                    np.frombuffer(matured, np.bool_),
                    np.frombuffer(weights, "<f4"),
                    np.frombuffer(packed, "<f4").reshape(len(ids), -1),
                )


def labels_of(raw: bytes, n: int) -> Labels:
    """(n,) labels: one byte each, or a number of eight, as the task has them."""
    return np.frombuffer(raw, np.uint8 if len(raw) == n else "<f8")


Source = Callable[[psycopg.Connection[Any], Question], Generator[Batch]]
"""Where rows come from: `batches`, or what computes their features elsewhere (ubp_sql.worker.training)."""


def fetch(
    conn: psycopg.Connection[Any], task: str, cuts: Sequence[datetime], source: Source = batches
) -> list[CutRows]:
    """Rows of the task's population at each cut, in the order of `cuts`; held once, but for one cut's."""
    parts: dict[int, list[Batch]] = {(cut - EPOCH) // MICROSECOND: [] for cut in cuts}
    with closing(source(conn, Question(task, cuts))) as found:
        for batch in found:
            for cut_us in np.unique(batch.cuts_us):
                mine = batch.cuts_us == cut_us
                columns = (batch.user_ids, batch.cuts_us, batch.labels, batch.matured, batch.weights, batch.features)
                parts[int(cut_us)].append(Batch(*(column[mine] for column in columns)))
    return [_join(cut, parts.pop((cut - EPOCH) // MICROSECOND)) for cut in cuts]


def _join(cut: datetime, parts: list[Batch]) -> CutRows:
    if not parts:
        return CutRows(cut, True, np.empty(0, np.int64), np.empty(0, np.uint8), np.empty((0, 0), np.float32))
    return CutRows(
        cut,
        bool(parts[0].matured[0]),
        np.concatenate([part.user_ids for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.features for part in parts]),
    )
