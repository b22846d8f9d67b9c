"""25 features of everybody at one moment: ours beside SQL, DuckDB and Polars."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import psycopg

from bench import agree, ours, settings
from bench.event_log import END_US
from bench.features25 import FEATURES
from bench.rivals.apart import Apart
from bench.rivals.postgres import ALONE, PARALLEL, PlainSQL
from bench.rounds import Timing, rounds
from bench.server import cluster
from bench.stored import stored

EVENTS, USERS, ROUNDS = 5_000_000, 100_000, 5
LEAST = {"SQL, filter, 1 process": 20.0, "DuckDB": 2.0, "Polars": 1.0}
"""What is beaten by how much: the query that an analyst would write, and each engine's best form, on one core."""
LEAST_TABLE = 10.0
ANALYST_TABLE = "SQL, filter, create table as"
FORMS = {"DuckDB": ("filter", "split"), "Polars": ("in-memory", "streaming")}
_AS_OF = f"to_timestamp({END_US // 1_000_000})"
OURS = "ours, arrays in memory"
OURS_NEW_TABLE, OURS_TABLE = (
    "ours, refresh_features() into an empty table",
    "ours, refresh_features() over everybody's rows",
)


def run() -> dict[str, Any]:
    """Answers are compared first, then all methods run in turn. Bars are of one core.

    Those of SQL are against one FILTER query for all features; our own faster form, a query a group of features, is in
    the notes.
    """
    size = settings.size(EVENTS, USERS)
    conn = stored(size, rival=True)
    ours.prepare(conn)
    sql = PlainSQL(psycopg.connect(cluster().dsn(size.name), autocommit=True))
    apart = {(engine, threads): Apart(engine, threads, size) for engine in FORMS for threads in (1, 2)}
    methods: dict[str, Callable[[], float]] = {OURS: partial(timed, conn, f"select bench.snapshot({END_US})")}
    for form in ("filter", "split"):
        methods[f"SQL, {form}, 1 process"] = partial(sql.snapshot, form, END_US, ALONE)
        methods[f"SQL, {form}, parallel"] = partial(sql.snapshot, form, END_US, PARALLEL)
    for (engine, threads), rival in apart.items():
        for form in FORMS[engine]:
            name = f"{engine}, {form}, {threads} thread{'s'[: threads - 1]}"
            methods[name] = partial(rival.time, "snapshot", form, END_US)
    _check(conn, sql, apart)
    timings = rounds(methods, settings.count(ROUNDS))
    tables = rounds(_tables(conn, sql), max(1, settings.count(ROUNDS) // 2))
    for rival in apart.values():
        rival.close()
    rows = [
        {"method": name, **timing.row(), "M events/s": size.events / timing.median / 1e6}
        for name, timing in {**timings, **tables}.items()
    ]
    return {
        "rows": rows,
        "bars": _bars(timings, tables),
        "notes": _notes(timings, tables),
        "size": str(size),
        "tolerance": agree.RELATIVE,
    }


def timed(conn: psycopg.Connection[Any], statement: str) -> float:
    """Seconds as the client sees them."""
    started = time.perf_counter()
    conn.execute(statement)
    return time.perf_counter() - started


def _check(conn: psycopg.Connection[Any], sql: PlainSQL, apart: dict[tuple[str, int], Apart]) -> None:
    """Everybody's answer is that of the plain FILTER query."""
    names = [f.name for f in FEATURES]
    users, expected = sql.answer("filter", END_US)
    conn.execute(f"select bench.snapshot({END_US})")
    answers = {"ours": ours.snapshot_answer(conn), "SQL, split": sql.answer("split", END_US)}
    ours.refresh_everybody(conn, _AS_OF)
    answers["ours, stored"] = ours.stored_rows(conn)
    for (engine, threads), rival in apart.items():
        for form in FORMS[engine]:
            rival.time("snapshot", form, END_US)
            answers[f"{engine}, {form}, {threads} threads"] = rival.answer()
    for name, (who, table) in answers.items():
        if not np.array_equal(who, users):
            raise SystemExit(f"{name} has {len(who)} users, not {len(users)}")
        agree.require(name, table, expected, names, users.tolist())


def _tables(conn: psycopg.Connection[Any], sql: PlainSQL) -> dict[str, Callable[[], float]]:
    """To a finished table on disk; what is written is made room for outside the clock."""

    def refresh() -> float:
        conn.execute("update ubp.feature_sets set stale = true")
        return timed(conn, f"select * from ubp.refresh_features({_AS_OF})")

    def create(form: str, settings: tuple[str, ...]) -> float:
        sql.conn.execute("drop table if exists bench.made_features")
        sql.set(settings)
        return timed(sql.conn, f"create table bench.made_features as {sql.query(form, END_US)}")

    def insert() -> float:
        conn.execute("delete from ubp.feature_rows")
        conn.execute("vacuum ubp.feature_rows")
        return refresh()

    return {
        OURS_NEW_TABLE: insert,
        OURS_TABLE: refresh,
        **{f"SQL, {form}, create table as": partial(create, form, ALONE) for form in ("filter", "split")},
        "SQL, split, create table as, parallel": partial(create, "split", PARALLEL),
    }


def best(timings: dict[str, Timing], *words: str) -> tuple[str, Timing]:
    """The fastest method whose name holds all these words."""
    fitting = [(name, timing) for name, timing in timings.items() if all(word in name for word in words)]
    return min(fitting, key=lambda found: found[1].median)


def _bars(timings: dict[str, Timing], tables: dict[str, Timing]) -> dict[str, bool]:
    mine, bars = timings[OURS].median, {}
    for words, least in LEAST.items():
        name, timing = best(timings, words, "1 ")
        ratio = timing.median / mine
        form = "" if name == words else ", its best on one core"
        bars[f"{ratio:.1f}x >= {least:.0f}x of {name}{form}"] = ratio >= least
    ratio = tables[ANALYST_TABLE].median / tables[OURS_NEW_TABLE].median
    bars[f"table: {ratio:.1f}x >= {LEAST_TABLE:.0f}x of {ANALYST_TABLE}"] = ratio >= LEAST_TABLE
    return bars


def _notes(timings: dict[str, Timing], tables: dict[str, Timing]) -> list[str]:
    """What no bar is about: our own faster form of the SQL, and rivals on two cores beside ours on one."""
    mine = timings[OURS].median
    beside = [best(timings, "SQL, split", "1 process"), best(timings, "SQL", "parallel")]
    beside += [best(timings, engine, "2 threads") for engine in FORMS]
    notes = [f"{timing.median / mine:.1f}x of {name}" for name, timing in beside]
    name, timing = best(tables, "SQL, split")
    return [*notes, f"table: {timing.median / tables[OURS_NEW_TABLE].median:.1f}x of {name}"]
