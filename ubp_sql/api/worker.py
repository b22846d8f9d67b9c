"""Refreshes and training sets whose features are computed by a process outside of the server: events go out.

A refresh's rows come back. Its job is one in steps (refresh_steps.py): what a worker does not bring, ubp.refresh_step
computes, and its last step stores everything. A worker writes features as they are to be served, so that only ubp_admin
may be one.
"""

import json
import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ubp_sql.api.moments import FeatureSet, feature_set, moment_us
from ubp_sql.api.refresh import LOCK, MIRRORED
from ubp_sql.api.refresh_steps import JOB, STEPPED, events_of_chunk, keep_chunk, users_of
from ubp_sql.api.session import Row, check_version, entry, run, single
from ubp_sql.api.standings import finish_all
from ubp_sql.api.training import Question, ask, opened, parts_of, seen_until
from ubp_sql.errors import BadInput, NotReady

if TYPE_CHECKING:
    from ubp_sql.features.events import Events
    from ubp_sql.features.known import Computed

NEXT_AFTER = """
select c.chunk, c.users from ubp.refresh_chunks c where c.job_id = $1 and not c.done and c.chunk > $2
 order by c.chunk limit 1"""
OPEN = "select c.users from ubp.refresh_chunks c where c.job_id = $1 and c.chunk = $2 and not c.done for update"
COUNT = """
select count(*) as n, coalesce(sum(c.n) filter (where not c.done), 0) as left,
       greatest((select s.users from ubp.feature_sets s where s.feature_set_id = $2), sum(c.n)) as users
  from ubp.refresh_chunks c where c.job_id = $1"""
ANOTHER = "is the worker of another version of ubp_sql?"


@entry
def refresh_question(plpy: Any, memory: dict[str, Any], number: int) -> str:
    """What a worker has to know of a job, as JSON: definition, moment (us, local_us), holidays."""
    job, found = _job(plpy, memory, number)
    us, local_us = moment_us(plpy, memory, job["as_of"], found.time_zone)
    question = {"definition": found.definition.to_json(), "us": us, "local_us": local_us}
    counted = run(plpy, memory, COUNT, ["bigint", "integer"], [number, found.feature_set_id])[0]
    mirrored = _mirrored(plpy, memory)
    events = mirrored and mirrored * int(counted["left"]) // max(1, int(counted["users"] or 0))
    question |= {"holidays": found.holidays, "chunks": counted["n"], "events": events, "byteorder": sys.byteorder}
    return json.dumps(question)


def _mirrored(plpy: Any, memory: dict[str, Any]) -> int | None:
    """How many events there are, where there is a mirror that knows."""
    return int(run(plpy, memory, MIRRORED, [], [])[0]["events"]) or None


@entry
def refresh_events(plpy: Any, memory: dict[str, Any], number: int, after: int) -> Iterator[tuple[Any, ...]]:
    """(chunk, columns of Events) of the job's next chunk that is to be computed, some thousand users a row.

    No row: there is none. One row without events: nobody in the chunk has any.
    """
    _, found = _job(plpy, memory, number)
    chunk = single(plpy, memory, NEXT_AFTER, ["bigint", "integer"], [number, after])
    if chunk is None:
        return iter(())
    return _packed(plpy, memory, found, chunk)


def _packed(plpy: Any, memory: dict[str, Any], found: FeatureSet, chunk: Row) -> Iterator[tuple[Any, ...]]:
    some = False
    for events in events_of_chunk(plpy, memory, found, users_of(chunk["users"])):
        some = True
        yield chunk["chunk"], *columns_of(found, events)
    if not some:
        yield chunk["chunk"], *[None] * 8


def columns_of(found: FeatureSet, events: "Events") -> tuple[bytes, ...]:
    """Events as bytes, in machine order: users, first, times, ingestion, offsets, kinds, numbers, keys."""
    columns = found.definition.columns
    plain = (events.user_id, events.first, events.t_us, events.ingested_us, events.offset_s, events.kind)
    numbers = b"".join(events.numbers[name].tobytes() for name in columns.numbers)
    keys = b"".join(events.keys[name].tobytes() for name in columns.keys)
    return *(column.tobytes() for column in plain), numbers, keys


@entry
def store_refreshed(
    plpy: Any,
    memory: dict[str, Any],
    number: int,
    chunk: int,
    columns: list[bytes | None],
    events: int,
    seconds: float,
) -> bool:
    """Takes a chunk's rows, the columns of Computed as bytes; false where somebody else computed it meanwhile."""
    import numpy as np

    if events < 0 or not (math.isfinite(seconds) and seconds >= 0):
        raise BadInput(f"{events} events in {seconds} seconds", "both are 0 or more")
    job, found = _job(plpy, memory, number)
    run(plpy, memory, LOCK, ["text"], [job["name"]])
    job, found = _job(plpy, memory, number)  # it may have ended, or another refresh have overtaken it
    open_chunk = single(plpy, memory, OPEN, ["bigint", "integer"], [number, chunk])
    if open_chunk is None:
        return False
    us, _ = moment_us(plpy, memory, job["as_of"], found.time_zone)
    made = _checked(columns, users_of(open_chunk["users"]), found, us)
    finish_all(plpy, memory, found, made, np.full(len(made.user_ids), us))  # type: ignore[arg-type]  # the two arrays that it looks at
    keep_chunk(plpy, memory, number, chunk, [made])
    run(plpy, memory, STEPPED, ["bigint", "double precision", "bigint"], [number, seconds, events])
    return True


def _checked(columns: list[bytes | None], users: Any, found: FeatureSet, us: int) -> "Computed":
    """The columns as arrays. Raises BadInput (UB003) where they cannot be this chunk's at its moment."""
    import numpy as np

    from ubp_sql.features.known import Computed

    kinds = (np.int64, np.float32, np.float64, np.int64, np.int64, np.int64)
    # Of an array of two dimensions the items are lists.
    if len(columns) != len(kinds) or not all(isinstance(column, bytes) for column in columns):
        raise BadInput(f"a chunk has {len(kinds)} columns, none of them NULL", ANOTHER)
    widths = 1, len(found.definition.features), len(found.definition.plan.anchors), 1, 1, 1
    n, q = (len(columns[i] or b"") // 8 for i in (0, 4))
    arrays = []
    for name, column, kind, width, rows in zip(
        Computed._fields, columns, kinds, widths, (n, n, n, n, q, q), strict=True
    ):
        raw = column or b""
        if len(raw) != rows * width * np.dtype(kind).itemsize:
            raise BadInput(f"{name} of {len(raw)} bytes are not of {rows} rows", ANOTHER)
        array = np.frombuffer(raw, kind).copy()
        arrays.append(array.reshape(rows, width) if name in ("features", "anchors") else array)
    made = Computed._make(arrays)
    for some in (made.user_ids, made.awaited):
        if not ((np.diff(some) > 0).all() and np.isin(some, users).all()):
            raise BadInput("users that are not the chunk's, or not in ascending order", ANOTHER)
    if np.isin(made.awaited, made.user_ids).any():
        raise BadInput("users who have a row and are awaited", ANOTHER)
    if any((until < us).any() for until in (made.valid_until, made.awaited_until)):
        raise BadInput("rows that were outdated before their moment", ANOTHER)
    return made


def _job(plpy: Any, memory: dict[str, Any], number: int) -> tuple[Row, FeatureSet]:
    check_version(plpy, memory)
    job = single(plpy, memory, JOB, ["bigint"], [number])
    if job is None or not job["same"]:
        raise NotReady(
            f"refresh job {number} is over, or somebody else refreshed or changed its set",
            "ubp-sql refresh begins anew",
        )
    return job, feature_set(plpy, memory, job["feature_set_id"])


@entry
def training_question(plpy: Any, memory: dict[str, Any], task: str | None, known_at: str | None) -> str:
    """What a worker has to know to compute a task's training rows, as JSON; see `training_pairs`.

    by_server  why only the server can compute them; empty where a worker can
    """
    check_version(plpy, memory)
    asked = ask(plpy, memory, task, None, None, known_at, None)
    found = asked.found
    alone = f"feature set {found.name!r} has features that go by all users" if found.definition.standings else ""
    question = {"definition": found.definition.to_json(), "holidays": found.holidays, "byteorder": sys.byteorder}
    known = {"whenever_known": asked.whenever_known, "events": _mirrored(plpy, memory), "by_server": alone}
    return json.dumps(question | known)


@entry
def training_pairs(
    plpy: Any,
    memory: dict[str, Any],
    task: str | None,
    cuts: list[str | None] | None,
    horizon: str | None,
    known_at: str | None,
    negatives: float | None,
) -> Iterator[tuple[Any, ...]]:
    """As ubp.training_matrix, but for the features: the events that they are made of, of some users at a time.

    The first row of such a part has its events, the others none; a pair names its user by the place among them.
    """
    check_version(plpy, memory)
    asked = ask(plpy, memory, task, cuts, horizon, known_at, negatives)
    read = opened(plpy, memory, asked)
    return _pairs(plpy, memory, asked, read, seen_until(plpy, memory, read))


def _pairs(plpy: Any, memory: dict[str, Any], asked: Question, read: Any, seen_us: int) -> Iterator[tuple[Any, ...]]:
    for events, batches in parts_of(plpy, memory, asked, read, seen_us):
        sent: tuple[bytes | None, ...] = columns_of(asked.found, events)
        for batch in batches:
            yield *batch.columns, batch.user.tobytes(), batch.local_us.tobytes(), *sent
            sent = (None,) * len(sent)
