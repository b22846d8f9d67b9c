"""DuckDB on the log, loaded into its memory before the clock starts."""

from typing import Any

import duckdb
import numpy as np

from bench.event_log import BEGIN_US, F64, I64, KINDS, Log
from bench.features25 import FEATURES
from bench.rivals import sql_pairs, sql_text


class DuckDB:
    """Rows lie by (user, time), kinds are an ENUM: the best of the layouts tried."""

    def __init__(self, log: Log, threads: int) -> None:
        self.db = duckdb.connect(config={"threads": threads})
        self.db.execute("set enable_progress_bar = false")
        self.db.execute(f"create type kind as enum {KINDS}")
        self.load("events", log)
        self.found: dict[str, Any] = {}

    def load(self, table: str, log: Log) -> None:
        """A table of events."""
        columns = {"u": log.user, "t": log.t_us, "k": log.kind.astype(np.int8), "i": log.item, "v": log.value}
        self.db.register("columns", columns)
        kind = " ".join(f"when {code} then '{name}'" for code, name in enumerate(KINDS))
        self.db.execute(f"""
            create table {table} as
            select u as user_id, make_timestamp(t) as event_time, (case k {kind} end)::kind as kind, i as item_id,
                   case when isnan(v) then null else v end as value
              from columns""")
        self.db.unregister("columns")

    def snapshot(self, form: str, as_of_us: int) -> None:
        """Features of every user at one moment, as arrays."""
        write = {"filter": sql_text.filter_form, "split": sql_text.split_form}[form]
        query = write(sql_text.DUCKDB, "events", f"make_timestamp({as_of_us})")
        self.found = self.db.execute(query).fetchnumpy()

    def answer(self) -> tuple[Any, F64]:
        """What the last call found: users ascending, and (users, 25) features, NaN for NULL."""
        users = np.asarray(self.found["user_id"])
        order = np.argsort(users)
        return users[order], self._table()[order]

    def _table(self) -> F64:
        columns = [np.ma.filled(np.ma.asarray(self.found[f.name]).astype(np.float64), np.nan) for f in FEATURES]
        return np.stack(columns, axis=1)

    def load_pairs(self, user: I64, moment_us: I64) -> None:
        """Pairs to be asked for; the answer's rows are in their order."""
        columns = {"n": np.arange(len(user)), "u": user, "m": moment_us}
        self.db.register("columns", columns)
        self.db.execute(
            "create or replace table pairs as select n as pair, u as user_id, make_timestamp(m) as moment from columns"
        )
        self.db.unregister("columns")

    def pairs(self) -> None:
        """Features of the loaded pairs."""
        self.found = self.db.execute(sql_pairs.join_form("pairs")).fetchnumpy()

    def every_event(self) -> None:
        """Features at every event of the log, in the log's order."""
        query = sql_pairs.frames_form(f"make_timestamp({BEGIN_US})")
        self.found = self.db.execute(query).fetchnumpy()

    def answer_pairs(self, rows: I64 | None = None) -> F64:
        """What the last call found for these rows (all)."""
        table = self._table()
        if "pair" in self.found:
            table = table[np.argsort(self.found["pair"])]
        return table if rows is None else table[rows]
