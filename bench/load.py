"""Seconds to load: Online Retail into a fresh database, and millions of simulated events beside a bare binary COPY."""

import gzip
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import settings
from bench.server import ROOT, cluster, fresh, load_online_retail
from ubp_sql.sources.load import load_file
from ubp_sql.sources.load_map import LoadMap
from ubp_sql.sources.simulator import simulate

MOST = 8.0
ROUNDS = 3
LEAST = 0.5
EVENTS_A_USER = 46.3
# The simulator's log with the types that its columns have; prices are decimals, so that both files say the same.
PARQUET_MAP = """
source: simulated_parquet
format: parquet
user: user
event_time: event_time
kind: kind
item: item
value: price * quantity
quantity: quantity
duration_s: duration_s
order_id: order_id
attributes: {session: session_id, discount: trim_scale(discount), search_text: search_text}
"""
COLUMNS = "user_id, event_time, kind, item_id, value, quantity, duration_s, attributes, ingested_at, source"
SUM = """select count(*), sum(hashtextextended(
  (user_id, event_time, kind, item_id, value, quantity, duration_s, attributes, ingested_at)::text, 0)) from {}"""
WIPE = """truncate ubp.events, ubp.rejected_events, ubp.users, ubp.items, ubp.load_parts, ubp.loads restart identity
cascade; truncate ubp.event_log; delete from ubp.sources where source_id > 0; checkpoint"""


def run() -> dict[str, Any]:
    """Online Retail; counts are checked before times are reported."""
    server, rows = cluster(), []
    for number in range(ROUNDS):
        conn = fresh(server, "bench_load")
        first, again = load_online_retail(conn), load_online_retail(conn)
        stored = conn.execute("select count(*) from ubp.events").fetchone() or (0,)
        if (first.read, first.loaded, first.rejected, again.loaded, stored[0]) != (541909, 406829, 135080, 0, 406829):
            raise SystemExit(f"counts are off: {first}, {again}")
        rows.append(
            {
                "round": number + 1,
                "seconds": first.seconds,
                "rows/s": first.read / first.seconds,
                "second run, seconds": again.seconds,
            }
        )
        conn.close()
    median = sorted(row["seconds"] for row in rows)[ROUNDS // 2]
    return {"rows": rows, "bars": {f"median {median:.1f} s < {MOST:.0f} s": median < MOST}}


def run_many() -> dict[str, Any]:
    """Simulated events as CSV and Parquet, beside COPY of ready bytes into a twin of ubp.events without triggers."""
    events = round(1e6 * float(os.environ.get("EVENTS") or 1))
    server = cluster()
    directory = ROOT / ".ubp-bench" / "load_many" / f"{events}-{settings.seed()}"
    csv_file, parquet_file, ready = _files(directory, events)
    conn = fresh(server, "bench_load_many")
    maps = {"CSV": LoadMap.from_file("simulated_shop"), "Parquet": LoadMap.from_text(PARQUET_MAP, Path("bench.yaml"))}
    files = {"CSV": csv_file, "Parquet": parquet_file}
    sums, loaded = [], 0
    for name in files:
        conn.execute(WIPE)
        loaded = load_file(conn, files[name], maps[name]).loaded
        sums.append(conn.execute(SUM.format("ubp.events").encode()).fetchone())
    _make_twin(conn)
    with open(ready, "wb") as out, conn.cursor() as cursor:
        query = f"copy (select {COLUMNS} from ubp.events order by event_id) to stdout (format binary)"
        with cursor.copy(query.encode()) as copy:
            for data in copy:
                out.write(data)

    def ours(name: str) -> float:
        conn.execute(WIPE)
        return load_file(conn, files[name], maps[name]).seconds

    def bare() -> float:
        conn.execute("truncate public.twin; checkpoint")
        began = time.perf_counter()
        with (
            conn.cursor() as cursor,
            cursor.copy(f"copy public.twin ({COLUMNS}) from stdin (format binary)".encode()) as copy,
        ):
            for chunk in _chunks(ready):
                copy.write(chunk)
        return time.perf_counter() - began

    methods: dict[str, Callable[[], float]] = {
        "ours, CSV": lambda: ours("CSV"), "ours, Parquet": lambda: ours("Parquet"), "bare binary COPY": bare,
    }  # fmt: skip
    bare()
    sums.append(conn.execute(SUM.format("public.twin").encode()).fetchone())
    if len(set(sums)) > 1:
        raise SystemExit(f"the three do not agree: {sums}")
    runs: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(settings.count(2)):
        for name, method in methods.items():
            runs[name].append(method())
    medians = {name: statistics.median(found) for name, found in runs.items()}
    rows = [
        {
            "method": name,
            "median s": medians[name],
            "fastest s": min(runs[name]),
            "slowest s": max(runs[name]),
            "events/s": loaded / medians[name],
            "rate of COPY's": medians["bare binary COPY"] / medians[name],
        }
        for name in methods
    ]
    ready.unlink()
    share = medians["bare binary COPY"] / max(medians["ours, CSV"], medians["ours, Parquet"])
    return {"rows": rows, "bars": {f"{share:.2f} of a bare COPY's rate >= {LEAST}": share >= LEAST}}


def _files(directory: Path, events: int) -> tuple[Path, Path, Path]:
    """The simulator's log as CSV (plain: unpacking is no part of a load) and as Parquet; and where ready bytes go."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    csv_file, parquet_file = directory / "events.csv", directory / "events.parquet"
    if not parquet_file.exists():
        made = simulate(directory, users=round(events / EVENTS_A_USER), days=365, seed=settings.seed())
        with gzip.open(made.events, "rb") as packed, open(csv_file, "wb") as plain:
            while data := packed.read(1 << 20):
                plain.write(data)
        made.events.unlink()
        text, whole = pa.string(), pa.int64()
        types = {
            "event_id": whole, "session_id": text, "user": whole, "event_time": pa.timestamp("us", "UTC"), "kind": text,
            "item": whole, "price": pa.decimal128(12, 2), "quantity": whole, "order_id": text,
            "discount": pa.decimal128(6, 3),
            "duration_s": whole, "search_text": text,
        }  # fmt: skip
        options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""])
        stream = pyarrow.csv.open_csv(csv_file, convert_options=options)
        with stream, pyarrow.parquet.ParquetWriter(parquet_file, stream.schema) as out:
            for batch in stream:
                out.write_batch(batch)
    return csv_file, parquet_file, directory / "ready.bin"


def _make_twin(conn: Any) -> None:
    """A table with the columns, checks, partitions and indexes of ubp.events, and no trigger."""
    conn.execute("create table public.twin (like ubp.events including all) partition by range (event_time)")
    query = """select c.relname, pg_get_expr(c.relpartbound, c.oid)
      from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'ubp.events'::regclass"""
    for name, bound in conn.execute(query).fetchall():
        conn.execute(f"create table public.twin_{name} partition of public.twin {bound}")


def _chunks(file: Path) -> Iterator[bytes]:
    with open(file, "rb") as stream:
        while chunk := stream.read(1 << 17):
            yield chunk
