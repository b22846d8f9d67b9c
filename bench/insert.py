"""What writers pay for being listened to: the same INSERTs into a plain table and into its watched twin."""

import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from bench import settings
from bench.server import cluster, fresh
from ubp_sql.embedded.binaries import find_binaries

ROUNDS = 15
DATABASE = "bench_insert"
BATCH, BATCHES, TOGETHER, TOGETHERS, COMMITS = 1_000, 20, 200, 4, 150
_TABLE = """
create table {name} ({key} customer bigint, at timestamptz, kind text, item bigint, amount numeric(12, 2));
create index on {name} (customer, at)"""
_KEY = "id bigint generated always as identity primary key,"
_ATTACH = "select ubp.attach_source({name}, 'customer', 'at', 'kind', item_id => 'item', value => 'amount')"
_TWIN = """
create table events_plain (like ubp.events including all) partition by range (event_time);
create table events_plain_default partition of events_plain default"""
_ROW = "{g} * 7919 %% 50000, now(), 'purchase', 5, 9.99"
_COLUMNS = "customer, at, kind, item, amount"
_OF_EVENTS = "user_id, event_time, kind, item_id, value"
# name: (plain table, watched twin, columns)
TABLES = {
    "ascending id": ("id_plain", "id_watched", _COLUMNS),
    "no id": ("bare_plain", "bare_watched", _COLUMNS),
    "ubp.events": ("events_plain", "ubp.events", _OF_EVENTS),
}
LEAST = {"ascending id": 0.93, "no id": 0.75, "ubp.events": 0.93}
LEAST_SINGLE = 0.7
"""Of the plain table's speed: statements of 1,000 rows, and of one."""


def run() -> dict[str, Any]:
    """Statements of 1,000 rows; of one, many in a transaction; of one, each a transaction.

    Only the last waits for the disk: where others do, it hides what a trigger costs.
    """
    count = settings.count(ROUNDS)
    rows: list[dict[str, Any]] = []
    bars: dict[str, bool] = {}
    with fresh(cluster(), DATABASE) as conn, tempfile.TemporaryDirectory() as folder:
        _make(conn)
        dsn = cluster().dsn(DATABASE)
        for name, (plain, watched, columns) in TABLES.items():
            least = {"1,000 rows": LEAST[name], "1 row, many in a transaction": LEAST_SINGLE}
            for what, (script, times) in _scripts(columns).items():
                taken = _interleaved(conn, dsn, Path(folder), script, times, (plain, watched), count)
                ratio = statistics.median(one / two for one, two in zip(*taken, strict=True))
                medians = [statistics.median(part) for part in taken]
                rows.append({"table": name, "statement": what, "plain µs": medians[0], "watched µs": medians[1],
                             "of plain speed": ratio})  # fmt: skip
                wanted = least.get(what, LEAST_SINGLE)
                bars[f"{name}, {what}: {ratio:.2f} of the plain table's speed >= {wanted}"] = ratio >= wanted
        _same(conn)
    return {"rows": rows, "bars": bars}


def _make(conn: psycopg.Connection[Any]) -> None:
    for _, (plain, watched, _columns) in list(TABLES.items())[:2]:
        key = sql.SQL(_KEY if plain == "id_plain" else "")
        for name in (plain, watched):
            conn.execute(sql.SQL(_TABLE).format(name=sql.Identifier(name), key=key))
        conn.execute(sql.SQL(_ATTACH).format(name=sql.Literal(f"public.{watched}")))
    conn.execute(_TWIN)


def _scripts(columns: str) -> dict[str, tuple[str, int]]:
    """pgbench scripts by what they measure, with how often a round runs them."""
    single = f"insert into {{table}} ({columns}) values ({_ROW.format(g=':g')});"
    many = f"insert into {{table}} ({columns}) select {_ROW.format(g='(g + :g)')} from generate_series(1, {BATCH}) g;"
    draw = "\\set g random(1, 200000)\n"
    begin = f"{draw}begin;\nset local synchronous_commit = off;\n"
    lines = "\n".join([single] * TOGETHER)
    return {
        "1,000 rows": (f"{begin}{many}\ncommit;", BATCHES),
        "1 row, many in a transaction": (f"{begin}{lines}\ncommit;", TOGETHERS),
        "1 row, each a transaction": (draw + single, COMMITS),
    }


def _interleaved(
    conn: psycopg.Connection[Any], dsn: str, folder: Path, script: str, times: int, tables: tuple[str, str], count: int
) -> tuple[list[float], list[float]]:
    """Median microseconds of a transaction, a round each, on both tables in turn."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(count + 1):
        conn.execute("truncate ubp.event_log")
        for place in (0, 1) if number % 2 else (1, 0):
            median = _median(dsn, folder, script.replace("{table}", tables[place]).replace("%%", "%"), times)
            if number:  # the first round fills caches
                taken[place].append(median)
    return taken


def _median(dsn: str, folder: Path, script: str, times: int) -> float:
    path = folder / "script.sql"
    path.write_text(script)
    pgbench = find_binaries().program("pgbench")
    command = [pgbench, "-n", "-M", "prepared", "-t", str(times + 2), "-l", "--log-prefix", f"{folder}/log"]
    subprocess.run([*command, "-f", str(path), dsn], check=True, capture_output=True, cwd=folder)
    found: list[int] = []
    for log in folder.glob("log.*"):
        found += [int(line.split()[2]) for line in log.read_text().splitlines()]
        log.unlink()
    return statistics.median(found[2:])


def _same(conn: psycopg.Connection[Any]) -> None:
    """What was listened to is what is there."""
    conn.execute("select * from ubp.rebuild_mirror()")
    conn.execute("insert into id_watched (customer, at, kind) values (1, now(), 'last')")
    conn.execute("select * from ubp.build_mirror()")
    if conn.execute("select * from ubp.verify_mirror()").fetchall():
        raise SystemExit("the mirror differs from the tables")
