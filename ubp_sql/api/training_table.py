"""Training rows kept in a table of their own: built beside what is there, put in its place when complete."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from ubp_sql.api import training_target
from ubp_sql.api.refresh import LOG
from ubp_sql.api.refresh_rows import BIGINT, DOUBLE, HEAD_BYTES, REAL, STATEMENT_BYTES, image, images, times
from ubp_sql.api.session import check_version, entry, run
from ubp_sql.api.training import Question, ask, opened, record_population
from ubp_sql.errors import NotReady
from ubp_sql.features.label_rule import AMOUNT
from ubp_sql.kernels.codes import DAY_US

# A set-returning function in FROM is computed to its end before the first row comes; in a list of columns it is not.
# It is stable, so that all of its batches see one snapshot, which queries of this volatile function would not.
BATCHES = """
select (b.batch).* from (select ubp.training_matrix($1, $2, $3, $4, $5) as batch offset 0) b"""
TYPES = ["text", "timestamptz[]", "interval", "text", "double precision"]
# Types of array elements, as in refresh_rows.
BOOLEAN, SMALLINT = 16, 21
INFO_SECONDS = 5.0
SHOWN = 5
"""Moments named in a message."""


@entry
def training_set(
    plpy: Any,
    memory: dict[str, Any],
    task: str,
    cuts: list[str | None] | None,
    horizon: str | None,
    known_at: str | None,
    negatives: float | None,
    into_table: str | None,
) -> int:
    """Writes the rows of ubp.training_matrix into the table; returns how many.

    Raises UnknownTask (UB001), BadInput (UB003) on every other argument, NotReady (UB005) when there is no row.
    """
    started = said = time.perf_counter()
    check_version(plpy, memory)
    question = ask(plpy, memory, task, cuts, horizon, known_at, negatives)
    record_population(plpy, memory, question)
    opened(plpy, memory, question)  # here, for what training_matrix raises would come as an error of its query
    target = training_target.find(plpy, memory, task, into_table)
    amount = question.rule.output == AMOUNT
    table = training_target.make(plpy, target, "double precision" if amount else "smallint")
    count = positives = 0
    unmatured: dict[int, int] = {}
    for batch in _batches(plpy, memory, [task, cuts, horizon, known_at, negatives]):
        count += _write(plpy, table, batch, amount=amount)
        positives += _look(question, batch, unmatured)
        if time.perf_counter() - said > INFO_SECONDS:
            said = time.perf_counter()
            plpy.info(f"{count:,} training rows after {said - started:.0f} s")
    if count == 0:
        raise NotReady(
            f"nobody of the population of task {task!r} was known at {'any event' if cuts is None else 'any cut'}",
            "load events, or choose later cuts"
            if question.whenever_known
            else "known_at => 'now' takes what is known today: an event may have been ingested long after its time",
        )
    if unmatured:
        _say_unmatured(plpy, question, count, unmatured)
    training_target.replace(plpy, memory, target, _words(task, question))
    detail = json.dumps({"table": f"{target.schema}.{target.name}", "positives": positives})
    types = ["text", "double precision", "bigint", "jsonb"]
    run(plpy, memory, LOG, types, ["training_set", time.perf_counter() - started, count, detail])
    return count


def _batches(plpy: Any, memory: dict[str, Any], arguments: list[Any]) -> Iterator[Any]:
    plan = memory.get(BATCHES)
    if plan is None:
        plan = memory[BATCHES] = plpy.prepare(BATCHES, TYPES)
    cursor = plan.cursor(arguments)
    while len(found := cursor.fetch(1)):
        yield found[0]


def _look(question: Question, batch: Any, unmatured: dict[int, int]) -> int:
    """Adds a batch's rows whose outcome is not known yet, by cut, of events all as 0; returns its positives."""
    import numpy as np

    cuts = np.frombuffer(batch["cut_times"], "<i8")[~np.frombuffer(batch["matured"], np.bool_)]
    if question.cuts is None:
        cuts = np.zeros_like(cuts)
    for cut_us, n in zip(*np.unique(cuts, return_counts=True), strict=True):
        unmatured[int(cut_us)] = unmatured.get(int(cut_us), 0) + int(n)
    labels = np.frombuffer(batch["labels"], "<f8" if question.rule.output == AMOUNT else np.uint8)
    return int((labels > 0).sum())


def _say_unmatured(plpy: Any, question: Question, count: int, unmatured: dict[int, int]) -> None:
    """Names the rows not to train on. Raises NotReady (UB005) where these are all."""
    rows = sum(unmatured.values())
    why = f"what happened in the {question.reach_us / DAY_US:g} days after their moment is not wholly known yet"
    if question.cuts is not None:
        said = [f"{n:,} at {_date(cut_us)}" for cut_us, n in sorted(unmatured.items())[:SHOWN]]
        more = f" and {len(unmatured) - SHOWN} later cuts" if len(unmatured) > SHOWN else ""
        why += f": {', '.join(said)}{more}"
    if rows == count:
        raise NotReady(f"none of {count:,} rows is matured, {why}", "earlier cuts, a shorter horizon, or newer events")
    plpy.notice(f"{rows:,} of {count:,} rows are not matured (matured = false), {why}")


def _date(us: int) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us):%Y-%m-%d %H:%M}"


def _write(plpy: Any, table: str, batch: Any, *, amount: bool) -> int:
    """Inserts a batch; returns how many rows it has."""
    import numpy as np

    users, cuts = np.frombuffer(batch["user_ids"], "<i8"), np.frombuffer(batch["cut_times"], "<i8")
    labels = np.frombuffer(batch["labels"], "<f8" if amount else np.uint8)
    matured = np.frombuffer(batch["matured"], np.uint8)
    weights = np.frombuffer(batch["weights"], "<f4")
    features = np.frombuffer(batch["features"], "<f4").reshape(len(users), -1)
    plan = plpy.prepare(
        f"insert into {table} select u.user_id, u.cut, u.label, u.matured, u.weight,"  # noqa: S608
        " ubp.image_array(substr($6, 1 + (u.place::integer - 1) * $7, $7), '{}'::real[])"
        " from unnest(ubp.image_array($1, '{}'::bigint[]), ubp.image_array($2, '{}'::timestamptz[]),"
        f" ubp.image_array($3, '{{}}'::{'double precision' if amount else 'smallint'}[]),"
        " ubp.image_array($4, '{}'::boolean[]),"
        " ubp.image_array($5, '{}'::real[])) with ordinality as u (user_id, cut, label, matured, weight, place)",
        ["bytea"] * 6 + ["integer"],
    )
    size = HEAD_BYTES + 4 * features.shape[1]
    step = max(1_000, STATEMENT_BYTES // size)
    for low in range(0, len(users), step):
        part = slice(low, low + step)
        columns = [
            image(users[part], BIGINT),
            times(cuts[part]),
            image(labels[part], DOUBLE) if amount else image(labels[part].astype("<i2"), SMALLINT),
            image(matured[part], BOOLEAN),
            image(weights[part], REAL),
        ]
        plan.execute([*columns, images(features[part], REAL), size])
    return len(users)


def _words(task: str, question: Question) -> str:
    """What the rows are, for whoever reads the table's comment."""
    cuts = "every event" if question.cuts is None else f"{len(question.cuts)} cuts"
    found = question.found
    known = "whenever it became known" if question.whenever_known else "as known by the cut"
    return (
        f"task {task}, at {cuts}, {known}, label within {question.width_us / DAY_US:g} days, {question.share:g} of the "
        f"negatives, features of set {found.name} ({found.definition.hash[:12]})"
    )
