"""Loads that are killed (SIGKILL) at random moments and run again: `make chaos` [KILLS=200] [SEED=1].

Each kill begins with empty tables: a process loads, is killed, maybe a second and a third one too, then the load runs
to its end. What is in the tables then must be, row for row, what an undisturbed load leaves; after each kill already,
the counts of ubp.loads must be those of the rows that are there.
"""

import contextlib
import gzip
import io
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import zstandard

from tests.fix_database import Database
from tests.sources.loading import make_map
from ubp_sql.sources import lines, rows
from ubp_sql.sources.load import load_file
from ubp_sql.sources.load_map import LoadMap

ROWS = 6000
FORKED = multiprocessing.get_context("fork")
TABLES = {
    "events": "select user_id, event_time, kind, item_id, value, attributes, source from ubp.events order by event_id",
    "anonymous": "select event_time, kind, item_id, value, attributes from ubp.anonymous_events order by event_id",
    "rejected": "select source_id, line, reason, raw from ubp.rejected_events order by rejected_id",
    "users": "select user_id, user_key from ubp.users order by user_id",
    "items": "select item_id, item_key from ubp.items order by item_id",
    "keys": "select source_id, event_key from ubp.event_keys order by event_key",
    "sources": "select source_id, name, user_keys, item_keys from ubp.sources order by source_id",
    "loads": "select content_sha256, rows_read, rows_loaded, rows_rejected, rows_already, rows_anonymous,"
    " continues, finished_at is not null as finished from ubp.loads order by load_id",
}
KEPT = """select coalesce(sum(rows_loaded), 0)
    = (select count(*) from ubp.events) + (select count(*) from ubp.anonymous_events)
  and coalesce(sum(rows_rejected), 0) = (select count(*) from ubp.rejected_events)
  and coalesce(sum(rows_loaded + rows_rejected + rows_already - rows_read), 0) = 0 from ubp.loads"""
WIPE = """truncate ubp.events, ubp.anonymous_events, ubp.rejected_events, ubp.users, ubp.items, ubp.event_keys,
  ubp.load_parts, ubp.loads restart identity cascade;
delete from ubp.sources where source_id > 0; alter table ubp.sources alter source_id restart"""


def csv_rows(seed: int) -> list[tuple[str, str, str, str, str, int]]:
    """Users and items that keep appearing, rows without a user or a usable time, true duplicates."""
    draw = random.Random(seed)
    found = []
    for n in range(ROWS):
        user = draw.choice(["", *(f"u{draw.randrange(1 + n // 3)}" for _ in range(9))])
        at = draw.choice(["not a time"] + [f"2024-{draw.randrange(1, 4):02}-{draw.randrange(1, 29):02} 10:00"] * 12)
        found.append(
            (user, at, draw.choice(["view", "cart"]), f"i{draw.randrange(40)}", draw.choice(["", "2.5"]), n // 2)
        )
    return found


@contextlib.contextmanager
def small_parts() -> Iterator[None]:
    """Some twenty parts."""
    kept = lines.BLOCK, rows.BATCH_ROWS, rows.PART_ROWS
    lines.BLOCK, rows.BATCH_ROWS, rows.PART_ROWS = 8 << 10, 150, 300
    try:
        yield
    finally:
        lines.BLOCK, rows.BATCH_ROWS, rows.PART_ROWS = kept


def cases(directory: Path) -> list[tuple[Path, LoadMap]]:
    """Files of every format and packing, with maps of every kind of identity."""
    data = csv_rows(7)
    text = "who,at,what,item,price,nr\n" + "".join(",".join(map(str, row)) + "\n" for row in data)
    fields: dict[str, Any] = {"item": "item", "value": "price::float8", "attributes": {"nr": "nr"}}
    made = []
    for name, packed, more in (
        ("plain.csv", text.encode(), {}),
        ("packed.csv.gz", gzip.compress(text.encode()), {"keys": ["nr"]}),
        ("packed.csv.zst", zstandard.compress(text.encode()), {"anonymous": "keep"}),
    ):
        (directory / name).write_bytes(packed)
        made.append((directory / name, make_map(directory, **fields, **more)))
    with contextlib.suppress(ImportError):
        import pyarrow as pa
        import pyarrow.parquet

        columns = dict(zip(("who", "at", "what", "item", "price", "nr"), zip(*data, strict=True), strict=True))
        out = io.BytesIO()
        pyarrow.parquet.write_table(pa.table(columns), out, row_group_size=700)
        (directory / "rows.parquet").write_bytes(out.getvalue())
        text_price = {**fields, "value": "nullif(price, '')::float8", "anonymous": "keep", "keys": ["who", "nr"]}
        made.append((directory / "rows.parquet", make_map(directory, format="parquet", **text_price)))
    return made


def run(database: Database, kills: int, seed: int, say: Any = lambda line: None) -> dict[str, int]:
    """Raises AssertionError where something is not as an undisturbed load leaves it."""
    draw = random.Random(seed)
    done = {"kills": 0, "before the first part": 0, "between": 0, "after the end": 0}
    with tempfile.TemporaryDirectory() as name, small_parts():
        directory = Path(name)
        made = cases(directory)
        wanted, lasts = [], []
        for path, load_map in made:
            database.execute(WIPE)
            began = time.monotonic()
            _load(database.dsn, path, load_map)
            lasts.append(time.monotonic() - began)
            wanted.append(_tables(database))
        while done["kills"] < kills:
            place = done["kills"] % len(made)
            path, load_map = made[place]
            database.execute(WIPE)
            for _ in range(draw.choice([1, 1, 2, 3])):
                _killed(database.dsn, path, load_map, draw.uniform(0, 1.1 * lasts[place]))
                done["kills"] += 1
                in_by_now = int(database.one("select count(*) from ubp.load_parts"))
                ended = bool(database.one("select count(*) from ubp.loads where finished_at is not null"))
                done["after the end" if ended else "between" if in_by_now else "before the first part"] += 1
                assert database.one(KEPT), (seed, done)
            _load(database.dsn, path, load_map)
            found = _tables(database)
            for table in TABLES:
                if found[table] != wanted[place][table]:
                    pairs = zip(found[table], wanted[place][table], strict=False)
                    first = next((pair for pair in pairs if pair[0] != pair[1]), "one has more rows")
                    raise AssertionError((seed, done, path.name, table, first))
            say(f"{done['kills']} kills: {done}")
    return done


def _tables(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    with database.connect() as conn:
        return {name: conn.execute(query).fetchall() for name, query in TABLES.items()}


def _load(dsn: str, path: Path, load_map: LoadMap) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        load_file(conn, path, load_map)


def _killed(dsn: str, path: Path, load_map: LoadMap, after_s: float) -> None:
    """Load in a process of its own; and its end as the database sees it."""
    process = FORKED.Process(target=_load, args=(dsn, path, load_map))
    process.start()
    process.join(after_s)
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    query = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    with psycopg.connect(dsn, autocommit=True) as conn:
        for _ in range(1000):  # a statement that runs goes on until it wants to answer
            if conn.execute(query + " and backend_type = 'client backend'").fetchone() == (0,):
                return
            time.sleep(0.01)


def main() -> None:
    from tests.fix_database import create, drop
    from ubp_sql.embedded import Cluster
    from ubp_sql.install import commands

    kills, seed = int(os.environ.get("KILLS") or 200), int(os.environ.get("SEED") or 1)
    with tempfile.TemporaryDirectory(prefix="ubp-chaos-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        cluster = Cluster(directory, fast=True)
        cluster.start()
        try:
            database = create(cluster, "template0")
            with database.connect() as conn:
                commands.init(conn)
            print(run(database, kills, seed, say=lambda line: print(line, file=sys.stderr)))
            drop(database)
        finally:
            cluster.remove()


if __name__ == "__main__":
    main()
