"""`ubp-sql training-set`: files read back by pyarrow and Polars, equal to the table; refusals; nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from tests.api.helpers import ODD_KINDS, Connection, feature_names
from tests.cli.running import document, refusal, told
from tests.fix_database import Database
from ubp_sql.training.cuts import parse_horizon
from ubp_sql.training.rows import Question, batches, fetch

CUTS = ("2024-01-10", "2024-03-31T01:00")
KEYS = {
    "user_id": pl.Int64,
    "cut": pl.Datetime("us", "UTC"),
    "label": pl.UInt8,
    "matured": pl.Boolean,
    "weight": pl.Float32,
}


def written(db: Database, file: Path, *arguments: str) -> dict[str, Any]:
    found = document("training-set", "same", "-o", file, *arguments, "--dsn", db.dsn)
    assert isinstance(found, dict)
    return found


def read(file: Path) -> pl.DataFrame:
    return pl.read_parquet(file) if file.suffix == ".parquet" else pl.read_ipc(file)


def table(conn: Connection, cuts: str, **options: Any) -> tuple[list[tuple[Any, ...]], NDArray[np.float32]]:
    """Keys and features of ubp.training_set, which is gone again."""
    more = "".join(f", {name} => %({name})s" for name in options)
    with conn.transaction(force_rollback=True):
        conn.execute(f"select ubp.training_set('same', {cuts}{more})".encode(), options)
        rows = conn.execute(
            "select user_id, cut, label, matured, weight, features from ubp.training_same order by user_id, cut",
            binary=True,
        ).fetchall()
    return [tuple(row[:5]) for row in rows], np.array([row[5] for row in rows], np.float32)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather"])
@pytest.mark.parametrize(
    ("arguments", "cuts", "options"),
    [
        (
            ("--cut", CUTS[0], "--cut", CUTS[1]),
            "array['2024-01-10 00:00+00', '2024-03-31 01:00+00']::timestamptz[]",
            {},
        ),
        (
            ("--every-event", "--known-at", "now", "--negatives", "0.5", "--horizon", "36h"),
            "null",
            {"known_at": "now", "negatives": 0.5, "horizon": timedelta(hours=36)},
        ),
    ],
    ids=["cuts", "every event"],
)
def test_round_trip(
    odd_db: Database,
    odd: Connection,
    tmp_path: Path,
    suffix: str,
    arguments: tuple[str, ...],
    cuts: str,
    options: dict[str, Any],
) -> None:
    file = tmp_path / f"rows{suffix}"
    said = written(odd_db, file, *arguments)
    keys, features = table(odd, cuts, **options)
    names = feature_names(odd_db)
    frame = read(file)
    assert dict(frame.schema) == KEYS | dict.fromkeys(names, pl.Float32)
    assert frame.select(*KEYS).rows() == keys
    got = frame.select(names).to_numpy()
    assert np.array_equal(np.isnan(got), np.isnan(features))
    assert np.array_equal(np.nan_to_num(got), np.nan_to_num(features))
    assert frame.select(names).null_count().sum_horizontal().item() == np.isnan(features).sum() > 0, "not NaN"
    schema = pq.read_schema(file) if suffix == ".parquet" else pa.ipc.open_file(file).schema
    assert [field.nullable for field in schema] == [False] * len(KEYS) + [True] * len(names)
    about = json.loads(schema.metadata[b"ubp_sql"])
    assert (about["task"], about["label_kind"], about["known_at"]) == (
        "same",
        ODD_KINDS[0],
        options.get("known_at", "cut"),
    )
    assert about["horizon_s"] == (129_600 if options else 1_728_000)
    assert {name: said[name] for name in ("rows", "positives", "users", "features", "bytes")} == {
        "rows": len(keys),
        "positives": sum(key[2] for key in keys),
        "users": len({key[0] for key in keys}),
        "features": len(names),
        "bytes": file.stat().st_size,
    }
    assert os.listdir(tmp_path) == [file.name]


def test_for_people(odd_db: Database, tmp_path: Path) -> None:
    line = told("training-set", "same", "-o", tmp_path / "x.parquet", "--cut", CUTS[0], "--dsn", odd_db.dsn)
    assert line.count("\n") == 1
    assert "rows of" in line


@pytest.mark.parametrize(
    ("arguments", "code", "sqlstate", "word"),
    [
        (("same", "-o", "x.parquet"), 2, "UB003", "--every-event"),
        (("same", "-o", "x.parquet", "--cut", CUTS[0], "--every-event"), 2, "UB003", "both"),
        (("same", "-o", "x.csv", "--every-event"), 2, "UB003", ".parquet"),
        (("same", "-o", "x", "--every-event"), 2, "UB003", ".parquet"),
        (("same", "-o", "no/where/x.parquet", "--every-event"), 2, "UB003", "no directory"),
        (("same", "-o", "a.parquet", "--every-event"), 2, "UB003", "is a directory"),
        (("nope", "-o", "x.parquet", "--every-event"), 2, "UB001", "nope"),
        (("same", "-o", "x.parquet", "--cut", "tomorrow"), 2, "UB003", "tomorrow"),
        (("same", "-o", "x.parquet", "--cut", CUTS[0], "--cut", CUTS[0]), 2, "UB003", "twice"),
        (("same", "-o", "x.parquet", "--cut", "1990-01-01"), 4, "UB005", "--known-at now"),
        (("same", "-o", "x.parquet", "--cut", "1990-01-01", "--known-at", "now"), 4, "UB005", "later moments"),
        (("same", "-o", "x.parquet", "--every-event", "--horizon", "1 month"), 2, "UB003", "30d"),
        (("same", "-o", "x.parquet", "--every-event", "--horizon", "0d"), 2, "UB003", "positive"),
        (("same", "-o", "x.parquet", "--every-event", "--known-at", "then"), 2, "UB003", "then"),
        (("same", "-o", "x.parquet", "--every-event", "--negatives", "0"), 2, "UB003", "negatives"),
        (("same", "-o", "x.parquet", "--every-event", "--negatives", "2"), 2, "UB003", "negatives"),
    ],
)
def test_refusals(
    odd_db: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    sqlstate: str,
    word: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.parquet").mkdir()
    (tmp_path / "x.parquet").write_text("as it was")
    got = refusal("training-set", *arguments, "--dsn", odd_db.dsn)
    assert got[:2] == (code, sqlstate)
    assert word in got[2]
    assert sorted(os.listdir(tmp_path)) == ["a.parquet", "x.parquet"]
    assert (tmp_path / "x.parquet").read_text() == "as it was"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30d", timedelta(days=30)),
        ("1 day", timedelta(days=1)),
        (" 36 Hours", timedelta(hours=36)),
        ("90m", timedelta(minutes=90)),
    ],
)
def test_horizons_as_people_write_them(text: str, expected: timedelta) -> None:
    assert parse_horizon(text) == expected


def test_a_feature_called_as_a_key_is_refused(
    odd_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ubp_sql.training.export.NAMES", "select 'label' as name where %s > 0")
    got = refusal("training-set", "same", "-o", tmp_path / "x.parquet", "--every-event", "--dsn", odd_db.dsn)
    assert got[1] == "UB003"
    assert "called label" in got[2]
    monkeypatch.setattr("ubp_sql.training.export.NAMES", "select 'one' as name where %s > 0")
    got = refusal("training-set", "same", "-o", tmp_path / "x.parquet", "--every-event", "--dsn", odd_db.dsn)
    assert got[1] == "UB002"
    assert os.listdir(tmp_path) == []


def test_whoever_stops_reading_stops_the_server(odd_db: Database) -> None:
    with odd_db.connect() as conn:
        rows = batches(conn, Question("same", None))
        next(rows)
        rows.close()
        assert conn.execute("select 1").fetchone() == (1,)


def test_rows_by_cut_are_in_the_order_asked_for(odd_db: Database, odd: Connection) -> None:
    cuts = [datetime(2024, 3, 28, 1, tzinfo=UTC), datetime(1990, 1, 1, tzinfo=UTC), datetime(2024, 1, 10, tzinfo=UTC)]
    found = fetch(odd, "same", cuts)
    assert [rows.cut for rows in found] == cuts
    assert [len(rows.labels) > 0 for rows in found] == [True, False, True]
    for rows in found:
        keys, features = (
            ([], np.empty((0, 0))) if not len(rows.labels) else table(odd, f"array['{rows.cut}'::timestamptz]")
        )
        assert rows.user_ids.tolist() == [key[0] for key in keys]
        assert rows.labels.tolist() == [key[2] for key in keys]
        assert np.array_equal(rows.features, features, equal_nan=True)
        assert all(key[3] == rows.matured for key in keys)


INTERRUPTED = """
import sys
from ubp_sql.training import export
def slow(batch, schema, made=export._record_batch):
    import time
    print('writing', flush=True)
    time.sleep(30)
    return made(batch, schema)
export._record_batch = slow
from ubp_sql.cli.main import run
sys.argv = ['ubp-sql', *sys.argv[1:]]
run()
"""


def test_interrupted_it_leaves_the_old_file(odd_db: Database, tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    file.write_text("as it was")
    argv = [sys.executable, "-c", INTERRUPTED, "training-set", "same", "-o", str(file), "--every-event"]
    process = subprocess.Popen([*argv, "--dsn", odd_db.dsn], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - started < 10
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert os.listdir(tmp_path) == [file.name]
    assert file.read_text() == "as it was"
