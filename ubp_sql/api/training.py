"""Training rows: features of the task's population at past moments, with what happened next."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from ubp_sql.api.events import in_chunks, touch
from ubp_sql.api.moments import feature_set, moment_us
from ubp_sql.api.session import check_version, entry, prepare_numba, single
from ubp_sql.errors import BadInput, UnknownTask

TASK = """
select t.feature_set_id, t.label_kind, t.population_kind, t.horizon from ubp.task_definitions t where t.task = $1"""
NEWEST = "select max(event_time) as event_time from ubp.events"
END_OF_LABEL = "select ($1 + $2)::timestamptz as until, $1 + $2 <= $3 as matured"

# Feature rows held at once; a value of 1 GB is PostgreSQL's limit and a quarter of it ours.
MOST_BYTES = 256 << 20


class Moment(NamedTuple):
    """A cut with the end of its label window; `matured`: all of that window has been seen."""

    cut: str
    matured: bool
    cut_us: int
    local_us: int
    until_us: int


@entry
def training_matrix(plpy: Any, memory: dict[str, Any], task: str, cuts: list[str | None]) -> Iterator[Any]:
    """One row a cut and chunk of users: (cut, matured, user_ids, labels, features) packed little-endian."""
    check_version(plpy, memory)
    row = single(plpy, memory, TASK, ["text"], [task])
    if row is None:
        raise UnknownTask(f"unknown task {task!r}", "select task from ubp.tasks lists the tasks")
    if not cuts:
        raise BadInput("no cuts were given", "array[timestamptz '2011-06-01 00:00+00', ...]")
    found = feature_set(plpy, memory, row["feature_set_id"])
    newest = single(plpy, memory, NEWEST, [], [])
    moments = []
    for cut in cuts:
        cut_us, local_us = moment_us(plpy, memory, cut, found.time_zone, "a cut")
        arguments = [cut, row["horizon"], newest and newest["event_time"]]
        end = single(plpy, memory, END_OF_LABEL, ["timestamptz", "interval", "timestamptz"], arguments)
        until_us, _ = moment_us(plpy, memory, end["until"] if end else None, found.time_zone, "a cut's horizon")
        moments.append(Moment(str(cut), bool(end and end["matured"]), cut_us, local_us, until_us))
    return _rows(plpy, memory, found, row, moments)


def _rows(plpy: Any, memory: dict[str, Any], found: Any, task: Any, moments: list[Any]) -> Iterator[Any]:
    prepare_numba()
    import numpy as np

    from ubp_sql.features.compute import compute
    from ubp_sql.features.rows import has_before, has_between

    kinds = list(found.definition.kinds)
    label, population = kinds.index(task["label_kind"]), kinds.index(task["population_kind"])
    for events in in_chunks(plpy, memory, kinds, "infinity", "infinity"):
        a_cut = len(events.user_id) * len(found.definition.features) * 4
        together = max(1, MOST_BYTES // max(1, a_cut))
        for low in range(0, len(moments), together):
            # All cuts of a group in one call: the kernel walks a user's events once for all of his moments.
            group = moments[low : low + together]
            users = []
            for m in group:
                users.append(has_before(events, population, m.cut_us, m.cut_us))
                touch(plpy, memory)
            which = np.repeat(np.arange(len(group)), [len(u) for u in users])
            user = np.concatenate(users)
            order = np.lexsort((which, user))
            values = compute(
                events,
                found.definition,
                user[order],
                np.array([m.cut_us for m in group])[which[order]],
                np.array([m.local_us for m in group])[which[order]],
                between_chunks=lambda: touch(plpy, memory),
            )
            for number, moment in enumerate(group):
                rows = values[which[order] == number]
                labels = has_between(events, label, moment.cut_us, moment.until_us)[users[number]]
                ids = events.user_id[users[number]].astype("<i8")
                yield moment.cut, moment.matured, ids.tobytes(), labels.tobytes(), rows.astype("<f4").tobytes()
