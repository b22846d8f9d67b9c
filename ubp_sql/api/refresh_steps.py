"""A refresh that commits between its steps: chunks of users are computed aside, the last step stores them all at once.

Everything a job knows lies in tables: any session can take the next step, also after the one before was killed. Its
users are taken off ubp.dirty_users when it starts: who is there later changed later, and stays for the next refresh.
"""

import json
import time
from typing import TYPE_CHECKING, Any

from ubp_sql.api.mirror_store import LOCK_SHARED
from ubp_sql.api.moments import FeatureSet, feature_set, moment_us
from ubp_sql.api.refresh import HOLD, LOCK, among, begin, mark, move, refuse_nothing, take
from ubp_sql.api.refresh_rows import BIGINT, HEAD_BYTES, Moment, compute_users, image
from ubp_sql.api.refresh_store import await_no_more, begin_anew, forget, pieces, store
from ubp_sql.api.refresh_users import stored_users
from ubp_sql.api.session import Row, check_version, entry, prepare_numba, run, single
from ubp_sql.errors import BadInput, NotReady, UbpError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ubp_sql.features.events import Events
    from ubp_sql.features.known import Computed
    from ubp_sql.kernels.dispatch import I64

CHUNK_USERS = 20_000
"""Users a step: about 0.3 s of work and 4 MB of rows at 25 features and 50 events a user."""

UNFINISHED = """
select j.job_id, j.as_of, j.stepped_at, j.users,
       (select coalesce(sum(c.n), 0) from ubp.refresh_chunks c where c.job_id = j.job_id and c.done) as done
  from ubp.refresh_jobs j where j.feature_set_id = $1"""
NEW_RUN = "insert into ubp.job_runs (job, state, detail) values ('refresh_features', 'running', $1) returning job_id"
NEW_JOB = """
insert into ubp.refresh_jobs (job_id, feature_set_id, as_of, everyone, set_hash, based_on, users)
select $1, s.feature_set_id, $3, $4, s.hash, s.refreshed_at, $5 from ubp.feature_sets s where s.feature_set_id = $2"""
NEW_CHUNK = "insert into ubp.refresh_chunks (job_id, chunk, n, users) values ($1, $2, $3, $4)"
EVERY_USER = """
select string_agg(int8send(x.user_id), '' order by x.user_id) as users
  from (select distinct e.user_id from ubp.event_rows() e where e.kind = any ($1)) x"""
FRESH = "update ubp.feature_sets set stale = false where feature_set_id = $1"
JOB = """
select j.feature_set_id, s.name, j.as_of, j.everyone, j.users, j.seconds, j.events, r.state,
       j.set_hash = s.hash and j.based_on is not distinct from s.refreshed_at as same
  from ubp.refresh_jobs j
  join ubp.feature_sets s using (feature_set_id)
  join ubp.job_runs r using (job_id) where j.job_id = $1"""
RUN = """
select state, rows, detail, extract(epoch from finished_at - started_at)::double precision as seconds
  from ubp.job_runs where job_id = $1 and job = 'refresh_features'"""
NEXT = """
select chunk, users from ubp.refresh_chunks where job_id = $1 and not done order by chunk limit 1"""
COMPUTED = """
update ubp.refresh_chunks
   set done = true, user_ids = $3, features = $4, anchors = $5, valid_until = $6, awaited = $7, awaited_until = $8
 where job_id = $1 and chunk = $2"""
STEPPED = """
with job as (
  update ubp.refresh_jobs set seconds = seconds + $2, events = events + $3, stepped_at = clock_timestamp()
   where job_id = $1 returning seconds, users),
state as (update ubp.job_runs set state = 'running', finished_at = null where job_id = $1 and state = 'failed')
select j.seconds, j.users,
       (select coalesce(sum(c.n), 0) from ubp.refresh_chunks c where c.job_id = $1 and c.done) as done
  from job j"""
CHUNKS = "select chunk from ubp.refresh_chunks where job_id = $1 order by chunk"
CHUNK = """
select users, user_ids, features, anchors, valid_until, awaited, awaited_until from ubp.refresh_chunks
 where job_id = $1 and chunk = $2"""
USERS_BEFORE = "select coalesce(users, 0) as users from ubp.feature_sets where feature_set_id = $1"
GIVE_BACK = """
insert into ubp.dirty_users (feature_set_id, user_id)
select $2, u.user_id
  from ubp.refresh_chunks c cross join unnest(ubp.image_array(c.users, '{}'::bigint[])) as u (user_id)
 where c.job_id = $1
on conflict do nothing"""
STALE = "update ubp.feature_sets set stale = true where feature_set_id = $1"
DROP_CHUNKS = "delete from ubp.refresh_chunks where job_id = $1"
DROP_JOB = "delete from ubp.refresh_jobs where job_id = $1"
END = """
update ubp.job_runs set state = $2, finished_at = clock_timestamp(), rows = $3, detail = detail || $4::jsonb
 where job_id = $1"""


@entry
def start_refresh(plpy: Any, memory: dict[str, Any], as_of: str | None, name: str) -> int:
    """Takes the users to compute, in chunks, into a job of its own; returns its number."""
    check_version(plpy, memory)
    moment_us(plpy, memory, as_of, "UTC")
    run(plpy, memory, LOCK, ["text"], [name])
    found, moment = begin(plpy, memory, str(as_of), name)
    other = single(plpy, memory, UNFINISHED, ["integer"], [found.feature_set_id])
    if other is not None:
        number = other["job_id"]
        raise NotReady(
            f"job {number} refreshes feature set {name!r} as of {other['as_of']}: {other['done']} of {other['users']}"
            f" users are computed, last step at {other['stepped_at']}",
            f"select * from ubp.refresh_step({number}) goes on, select ubp.cancel_refresh({number}) gives it up",  # noqa: S608 - a hint
        )
    todo = take(plpy, memory, found, moment)
    users = todo.users if todo.users is not None else _everybody(plpy, memory, found)
    detail = {"feature_set": name, "as_of": moment.text, "features": len(found.definition.features)}
    detail |= {"why": todo.why, "steps": True}
    number = int(run(plpy, memory, NEW_RUN, ["jsonb"], [json.dumps(detail)])[0]["job_id"])
    types = ["bigint", "integer", "timestamptz", "boolean", "bigint"]
    run(plpy, memory, NEW_JOB, types, [number, found.feature_set_id, moment.text, todo.users is None, len(users)])
    for chunk, part in enumerate(pieces(users, CHUNK_USERS), 1):
        types = ["bigint", "integer", "integer", "bytea"]
        run(plpy, memory, NEW_CHUNK, types, [number, chunk, len(part), image(part, BIGINT)])
    run(plpy, memory, FRESH, ["integer"], [found.feature_set_id])
    return number


def _everybody(plpy: Any, memory: dict[str, Any], found: FeatureSet) -> "I64":
    import numpy as np

    row = single(plpy, memory, EVERY_USER, ["text[]"], [list(found.definition.kinds)])
    return np.frombuffer((row and row["users"]) or b"", ">i8").astype(np.int64)


@entry
def refresh_step(plpy: Any, memory: dict[str, Any], number: int) -> list[Row]:
    """The next chunk, or the end; one row that says how far the job is."""
    check_version(plpy, memory)
    job = single(plpy, memory, JOB, ["bigint"], [number])
    if job is None:
        return [_finished(plpy, memory, number)]
    run(plpy, memory, LOCK, ["text"], [job["name"]])
    job = single(plpy, memory, JOB, ["bigint"], [number])  # somebody else may have ended it before we had the lock
    if job is None:
        return [_finished(plpy, memory, number)]
    if not job["same"]:
        give_up(plpy, memory, number, job, "the feature set was refreshed or changed by somebody else meanwhile")
        return [_finished(plpy, memory, number)]
    try:
        # A failure must be seen after this transaction: it is recorded, and the step can be taken again.
        with plpy.subtransaction():
            return [_step(plpy, memory, number, job)]
    except plpy.spiexceptions.QueryCanceled:
        raise
    except (UbpError, plpy.SPIError) as error:
        message = str(error).strip().partition("\n")[0]
        run(plpy, memory, END, END_TYPES, [number, "failed", None, json.dumps({"error": message})])
        done = single(plpy, memory, UNFINISHED, ["integer"], [job["feature_set_id"]])
        return [_progress("failed", done["done"] if done else 0, job["users"], job["seconds"], message)]


END_TYPES = ["bigint", "text", "bigint", "jsonb"]


def _step(plpy: Any, memory: dict[str, Any], number: int, job: Row) -> Row:
    started = time.perf_counter()
    prepare_numba()
    found = feature_set(plpy, memory, job["feature_set_id"])
    moment = Moment(job["as_of"], *moment_us(plpy, memory, job["as_of"], found.time_zone))
    chunk = single(plpy, memory, NEXT, ["bigint"], [number])
    if chunk is None:
        return _end(plpy, memory, number, job, found, moment, started)
    events = _compute(plpy, memory, number, chunk, found, moment)
    types = ["bigint", "double precision", "bigint"]
    row = run(plpy, memory, STEPPED, types, [number, time.perf_counter() - started, events])[0]
    return _progress("running", row["done"], row["users"], row["seconds"], f"chunk {chunk['chunk']} is computed")


def _compute(plpy: Any, memory: dict[str, Any], number: int, chunk: Row, found: FeatureSet, moment: Moment) -> int:
    """Computes the users of a chunk into it; returns how many events they have."""
    import numpy as np

    parts, events_read = [], 0
    for events in events_of_chunk(plpy, memory, found, users_of(chunk["users"])):
        which = np.arange(len(events.user_id))
        parts.append(compute_users(plpy, memory, found, events, which, moment))
        events_read += len(events.t_us)
    keep_chunk(plpy, memory, number, chunk["chunk"], parts)
    return events_read


def events_of_chunk(plpy: Any, memory: dict[str, Any], found: FeatureSet, users: "I64") -> "Iterator[Events]":
    """The events of a chunk's users, some thousand users at a time."""
    from ubp_sql.api.events import read_users

    # Compaction deletes chunks of the mirror: not under our feet.
    run(plpy, memory, LOCK_SHARED, [], [])
    for part in pieces(users, max(1, CHUNK_USERS // 4)):
        events = read_users(plpy, memory, found.definition.kinds, found.definition.columns, part.tolist())
        if events is not None:
            yield events


def keep_chunk(plpy: Any, memory: dict[str, Any], number: int, chunk: int, parts: "list[Computed]") -> None:
    """A chunk's rows, to be stored with all others at the end."""
    import numpy as np

    filled: list[Any] = [None] * 6
    if parts:
        filled = [np.concatenate(column).tobytes() for column in zip(*parts, strict=True)]
    types = ["bigint", "integer", *["bytea"] * 6]
    run(plpy, memory, COMPUTED, types, [number, chunk, *filled])


def users_of(raw: bytes) -> "I64":
    """The ids in the image of a bigint[]."""
    import numpy as np

    return np.frombuffer(raw[HEAD_BYTES:], np.int64)


def _end(
    plpy: Any, memory: dict[str, Any], number: int, job: Row, found: FeatureSet, moment: Moment, started: float
) -> Row:
    """Stores every chunk and moves the set's as_of: one transaction, after which readers see the new moment."""
    import numpy as np

    key = found.feature_set_id
    run(plpy, memory, HOLD, ["integer"], [key])
    before = int(run(plpy, memory, USERS_BEFORE, ["integer"], [key])[0]["users"])
    ends = stored_users(plpy, memory, key) if job["everyone"] else np.empty(0, np.int64)
    kept = np.zeros(len(ends), np.bool_)
    if job["everyone"]:
        before = len(ends)
        begin_anew(plpy, memory, key)
    new = removed = computed = 0
    for chunk in run(plpy, memory, CHUNKS, ["bigint"], [number]):
        row = run(plpy, memory, CHUNK, ["bigint", "integer"], [number, chunk["chunk"]])[0]
        users = users_of(row["users"])
        made = _computed(row, len(found.definition.features), len(found.definition.plan.anchors))
        if job["everyone"]:
            mark(kept, ends, made.user_ids)
            new += store(plpy, memory, key, moment, made, among(made.user_ids, ends))
        else:
            await_no_more(plpy, memory, key, users)
            new += store(plpy, memory, key, moment, made)
            removed += forget(plpy, memory, key, users[~among(users, made.user_ids)])
        computed += len(made.user_ids)
    removed += forget(plpy, memory, key, ends[~kept])
    users_now = before + new - removed
    if users_now == 0:
        refuse_nothing(plpy, memory, found, moment)
    # What made the set stale after the job had begun stays to be done.
    move(plpy, memory, found, moment, users_now, keep_stale=True)
    seconds = job["seconds"] + time.perf_counter() - started
    detail = {"events": job["events"], "recomputed": computed, "worked_seconds": seconds}
    run(plpy, memory, END, END_TYPES, [number, "done", computed, json.dumps(detail)])
    _drop(plpy, memory, number)
    return _progress("done", job["users"], job["users"], seconds, f"{users_now} users at {moment.text}")


def _computed(row: Row, features: int, anchors: int) -> "Computed":
    """What a step kept of a chunk; nothing where none of its users had an event."""
    import numpy as np

    from ubp_sql.features.known import Computed

    user_ids, until, awaited, awaited_until = (
        np.frombuffer(row[name] or b"", np.int64) for name in ("user_ids", "valid_until", "awaited", "awaited_until")
    )
    rows = np.frombuffer(row["features"] or b"", np.float32).reshape(len(user_ids), features)
    held = np.frombuffer(row["anchors"] or b"", np.float64).reshape(len(user_ids), anchors)
    return Computed(user_ids, rows, held, until, awaited, awaited_until)


def _progress(state: str, done: int, total: int, seconds: float, detail: str) -> Row:
    return {"state": state, "done_users": int(done), "total_users": int(total), "seconds": seconds, "detail": detail}


def _finished(plpy: Any, memory: dict[str, Any], number: int) -> Row:
    """What a job that is over came to."""
    row = single(plpy, memory, RUN, ["bigint"], [number])
    if row is None:
        raise BadInput(f"there is no refresh job {number}", "select ubp.start_refresh() begins one")
    detail = json.loads(row["detail"])
    text = detail.get("error") or detail.get("why") or ""
    rows = int(row["rows"] or 0)
    return _progress(row["state"], rows, rows, row["seconds"] or 0.0, text)


@entry
def cancel_refresh(plpy: Any, memory: dict[str, Any], number: int) -> bool:
    """Gives a job up; false where it is over already."""
    job = single(plpy, memory, JOB, ["bigint"], [number])
    if job is not None:
        run(plpy, memory, LOCK, ["text"], [job["name"]])
        job = single(plpy, memory, JOB, ["bigint"], [number])
    if job is None:
        _finished(plpy, memory, number)
        return False
    give_up(plpy, memory, number, job, "cancelled")
    return True


def overtake(plpy: Any, memory: dict[str, Any], feature_set_id: int) -> None:
    """Gives up what another session began of the set and did not end: its users are this refresh's too."""
    other = single(plpy, memory, UNFINISHED, ["integer"], [feature_set_id])
    if other is not None:
        job = single(plpy, memory, JOB, ["bigint"], [other["job_id"]])
        assert job is not None  # noqa: S101 - the set's lock is held
        give_up(plpy, memory, other["job_id"], job, "overtaken by ubp.refresh_features")


def give_up(plpy: Any, memory: dict[str, Any], number: int, job: Row, why: str) -> None:
    """Puts the users of a job back on the list, so that nothing is lost with it."""
    if job["everyone"]:
        run(plpy, memory, STALE, ["integer"], [job["feature_set_id"]])
    else:
        run(plpy, memory, GIVE_BACK, ["bigint", "integer"], [number, job["feature_set_id"]])
    run(plpy, memory, END, END_TYPES, [number, "failed", 0, json.dumps({"error": why})])
    _drop(plpy, memory, number)


def _drop(plpy: Any, memory: dict[str, Any], number: int) -> None:
    run(plpy, memory, DROP_CHUNKS, ["bigint"], [number])
    run(plpy, memory, DROP_JOB, ["bigint"], [number])
