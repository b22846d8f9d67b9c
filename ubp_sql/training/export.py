"""A training set as a file: Parquet or Arrow, one float32 column a feature, written as the rows come."""

import json
import os
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

import ubp_sql
from ubp_sql.errors import BadInput, FeatureSetMismatch, NotReady, UnknownTask
from ubp_sql.features.label_rule import AMOUNT
from ubp_sql.features.windows import DAY_US
from ubp_sql.install import state
from ubp_sql.training.rows import Batch, Question, Source, batches

FORMATS = (".parquet", ".arrow", ".feather")
TASK = """
select s.name as feature_set, s.hash, s.users, t.label_kind, t.population_kind, t.horizon, t.feature_set_id,
       t.label - 'types' as label, t.output
  from ubp.task_definitions t join ubp.feature_sets s using (feature_set_id) where t.task = %s"""
NAMES = "select name from ubp.feature_definitions where feature_set_id = %s order by position"
ONE_SNAPSHOT = "set transaction isolation level repeatable read read only"
KEYS: list[tuple[str, pa.DataType]] = [
    ("user_id", pa.int64()),
    ("cut", pa.timestamp("us", tz="UTC")),
    ("label", pa.uint8()),
    ("matured", pa.bool_()),
    ("weight", pa.float32()),
]
AMOUNT_LABEL = pa.field("label", pa.float64(), nullable=False)


@dataclass
class Exported:
    """What was written.

    positives  labels above 0
    features   columns beside the five keys
    unmatured  rows whose outcome is not known yet, by the day of their moment, counted from 1970
    """

    file: Path
    rows: int = 0
    positives: int = 0
    users: int = 0
    features: int = 0
    bytes: int = 0
    unmatured: dict[int, int] = field(default_factory=dict)


def export(
    conn: psycopg.Connection[Any],
    question: Question,
    file: Path,
    say: Callable[[Exported, int | None], None] = lambda done, users: None,
    source: Source = batches,
) -> Exported:
    """Writes the rows to `file`, which appears when it is complete and is otherwise left as it was.

    say  called after each batch with what is written so far and about how many users there are, if that is known
    source  where the rows come from

    Raises UnknownTask (UB001), BadInput (UB003), NotReady (UB005) when there is no row, OSError.
    """
    if file.suffix not in FORMATS:
        raise BadInput(f"{file.name} names no format", f"end the name with {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if file.is_dir():
        raise BadInput(f"{file} is a directory", f"for example -o {file / (question.task + '.parquet')}")
    if not file.parent.is_dir():
        raise BadInput(
            f"there is no directory {file.parent}", "make it first: the file is written beside its last name"
        )
    with conn.transaction(), ExitStack() as stack:
        conn.execute(ONE_SNAPSHOT)
        task = _task(conn, question.task)
        names = [row["name"] for row in state.rows(conn, NAMES, task["feature_set_id"])]
        schema = _schema(question, task, names)
        # In the same directory, so that the name changes in one step; with our process's number, so that two do not
        # write into one.
        unfinished = file.with_name(f".{file.name}.{os.getpid()}.part")
        stack.callback(_remove, unfinished)
        done = Exported(file, features=len(names))
        last_user = None
        with (
            unfinished.open("wb") as sink,
            _writer(sink, schema, file.suffix) as writer,
            closing(source(conn, question)) as found,
        ):
            for batch in found:
                if batch.features.shape[1] != len(names):
                    raise FeatureSetMismatch("the feature set grew while it was read", "run the command again")
                writer.write_batch(_record_batch(batch, schema))
                done.rows += len(batch.labels)
                done.positives += int((batch.labels > 0).sum())
                _note_unmatured(done, batch)
                done.users += int(np.count_nonzero(np.diff(batch.user_ids)) + (batch.user_ids[0] != last_user))
                last_user = int(batch.user_ids[-1])
                say(done, task["users"])
            if done.rows == 0:
                raise _nobody(question)
            if sum(done.unmatured.values()) == done.rows:
                raise NotReady(
                    f"none of {done.rows:,} rows is matured: their outcome is not wholly known yet",
                    "earlier moments, a shorter horizon, or newer events",
                )
            writer.close()
            sink.flush()
            os.fsync(sink.fileno())
        unfinished.replace(file)
    done.bytes = file.stat().st_size
    return done


def _note_unmatured(done: Exported, batch: Batch) -> None:
    """Counts rows whose outcome is not known yet, by the day of their cut."""
    days, counts = np.unique(batch.cuts_us[~batch.matured] // DAY_US, return_counts=True)
    for day, n in zip(days.tolist(), counts.tolist(), strict=True):
        done.unmatured[day] = done.unmatured.get(day, 0) + n


def _nobody(question: Question) -> NotReady:
    late = question.known_at == "cut"
    hint = "--known-at now takes what is known today: an event may have been ingested long after its time"
    return NotReady(
        f"nobody of the population of task {question.task!r} was known at any of these moments",
        hint if late else "load events, or choose later moments",
    )


def _task(conn: psycopg.Connection[Any], task: str) -> dict[str, Any]:
    found = state.rows(conn, TASK, task)
    if not found:
        raise UnknownTask(f"unknown task {task!r}", "`select task from ubp.tasks` lists the tasks")
    return found[0]


def _schema(question: Question, task: dict[str, Any], names: list[str]) -> pa.Schema:
    """The keys, then a column a feature; the metadata `ubp_sql` says in JSON what the rows are."""
    keys = [name for name, _ in KEYS]
    if taken := sorted(set(names) & set(keys)):
        raise BadInput(f"a feature is called {taken[0]}, as a column of every training set", "give it another name")
    about = {
        "version": ubp_sql.__version__,
        "task": question.task,
        "label_kind": task["label_kind"],
        "label": task["label"],
        "output": task["output"],
        "population_kind": task["population_kind"],
        "horizon_s": (question.horizon or task["horizon"]).total_seconds(),
        "cuts": "every event" if question.cuts is None else [cut.isoformat() for cut in question.cuts],
        "known_at": question.known_at,
        "negatives": question.negatives,
        "feature_set": task["feature_set"],
        "feature_set_hash": task["hash"],
    }
    fields = [pa.field(name, kind, nullable=False) for name, kind in KEYS]
    if task["output"] == AMOUNT:
        fields[keys.index("label")] = AMOUNT_LABEL
    fields += [pa.field(name, pa.float32()) for name in names]
    return pa.schema(fields, metadata={"ubp_sql": json.dumps(about)})


def _writer(sink: Any, schema: pa.Schema, suffix: str) -> Any:
    if suffix == ".parquet":
        return pq.ParquetWriter(sink, schema, compression="zstd")
    return pa.ipc.new_file(sink, schema)


def _record_batch(batch: Batch, schema: pa.Schema) -> pa.RecordBatch:
    """Missing values are nulls: Polars and SQL engines tell them from numbers, pandas and NumPy show them as NaN."""
    columns = [
        pa.array(batch.user_ids),
        pa.array(batch.cuts_us).cast(KEYS[1][1]),
        pa.array(batch.labels),
        pa.array(batch.matured),
        pa.array(batch.weights),
        *(pa.array(column, from_pandas=True) for column in np.ascontiguousarray(batch.features.T)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
