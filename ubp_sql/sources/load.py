"""Load one file through a map into ubp.events: one transaction, every row accounted for."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from ubp_sql.errors import UbpError
from ubp_sql.sources.compiled import Compiled
from ubp_sql.sources.database import database_errors, session_settings
from ubp_sql.sources.identity import Cursor, Source, assign_ids, drop_known_keys, lock_source, open_source
from ubp_sql.sources.lines import LineFile
from ubp_sql.sources.load_map import LoadMap
from ubp_sql.sources.rows import CsvRows, Row, jsonl_batches, prefetch
from ubp_sql.sources.staging import Staging
from ubp_sql.sources.statements import Target

ANALYZE_FROM = 10_000  # rows; fewer change no plan
# Columns that plans depend on; all of them would cost 1.0 s instead of 0.3 for Online Retail.
_ANALYZE = "analyze ubp.events (user_id, event_time, kind, item_id)"
# A partition for each month that has rows: from the first to the last would make thousands for one wrong year.
# 240 months are 20 years; rows of further months go to the default partition.
_PARTITIONS = """select ubp.ensure_event_partitions(low, high) from (
    select min(event_time) as low, max(event_time) as high from pg_temp.ubp_typed
    group by date_trunc('month', event_time, 'UTC') order by count(*) desc limit 240) months"""
# In the order of the file: events of the same time keep it, since ids ascend. (No order saves 0.25 s in Online Retail
# and leaves it to the planner; by time costs 0.4 s more and gains nothing.)
_PUBLISH = """insert into ubp.events
    (user_id, event_time, kind, item_id, value, quantity, duration_s, attributes, ingested_at, source)
select u.id, t.event_time, t.kind, i.id, t.value, t.quantity, t.duration_s, t.attributes, t.ingested_at, %s
from pg_temp.ubp_typed t join pg_temp.ubp_users_ids u on u.raw = t.user_key
left join pg_temp.ubp_items_ids i on i.raw = t.item_key order by t.ubp_line, t.ubp_ord"""


@dataclass(frozen=True)
class Progress:
    """Where a load is: bytes of the stored file, rows read so far, and what is being done."""

    phase: str
    position: int
    size: int
    rows: int


@dataclass(frozen=True)
class LoadResult:
    """What became of a file's rows: loaded + rejected + already = read."""

    source: str
    file: str
    load_id: int
    read: int
    loaded: int
    rejected: int
    already: int
    seconds: float
    rejected_by_reason: dict[str, int] = field(default_factory=dict)


def load_file(
    conn: psycopg.Connection[tuple[object, ...]],
    file: Path,
    load_map: LoadMap,
    *,
    progress: Callable[[Progress], None] | None = None,
    dry_run: bool = False,
) -> LoadResult:
    """Load `file` in one transaction; a connection that is in one already gets a savepoint, and its caller commits.

    A file that the source has loaded before adds nothing: told by the map's keys row by row, without keys by the
    hash of its bytes. `dry_run` does everything and then rolls back.

    Raises SourceError (UB012) for a file that cannot be read, MapError (UB008) for a map that does not fit it,
    NotReady (UB005) without the schema, InstallError (UB011) without rights; nothing is loaded then.
    """
    return _Load(conn, file, load_map, progress).run(dry_run)


class _Load:
    def __init__(
        self,
        conn: psycopg.Connection[tuple[object, ...]],
        file: Path,
        load_map: LoadMap,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._conn, self._file, self._map, self._progress = conn, file, load_map, progress
        self._lines = LineFile(file, load_map.encoding)
        self._rows = 0

    def run(self, dry_run: bool) -> LoadResult:
        began = time.perf_counter()
        sha256 = self._lines.sha256()
        result: LoadResult | None = None
        with database_errors(self._conn):
            nested = self._conn.info.transaction_status != TransactionStatus.IDLE
            with self._conn.transaction(), self._conn.cursor(row_factory=tuple_row) as cursor:
                with session_settings(cursor, self._map, restore=nested):
                    result = self._load(cursor, sha256, began)
                if dry_run:
                    raise psycopg.Rollback()
            if result.loaded >= ANALYZE_FROM and not dry_run:
                self._analyze()
        return result

    def _tell(self, phase: str) -> None:
        if self._progress is not None:
            self._progress(Progress(phase, self._lines.position, self._lines.size, self._rows))

    def _load(self, cursor: Cursor, sha256: str, began: float) -> LoadResult:
        if not lock_source(cursor, self._map.source, wait=False):
            self._tell("waiting for another load of this source")
            lock_source(cursor, self._map.source, wait=True)
        source = open_source(cursor, self._map)
        cursor.execute(
            "select load_id, rows_read, rows_loaded, rows_rejected, rows_already from ubp.loads"
            " where source_id = %s and content_sha256 = %s",
            (source.source_id, sha256),
        )
        before = [int(str(number)) for number in cursor.fetchone() or ()]
        if before and not self._map.keys:
            load_id, read, loaded, rejected, already = before
            return self._result(load_id, read, 0, rejected, loaded + already, began, {})
        load_id = before[0] if before else self._record(cursor, source, sha256)
        if self._map.format == "csv":
            rows = CsvRows(self._lines.blocks(sha256), self._map, str(self._file))
            compiled = Compiled(self._map, rows.columns, rows.header)
            batches = rows.batches(compiled.used)
        else:
            compiled = Compiled(self._map, ["doc", "record"], ["doc", "record"])
            batches = jsonl_batches(self._lines.blocks(sha256))
        integer_users = (source.user_keys or self._map.user_keys) == "integer"
        target = Target(load_id, source.source_id, str(self._file), integer_users, bool(before))
        staging = Staging(cursor, compiled, target)
        self._read(staging, batches)
        loaded, already = self._publish(cursor, source)
        staging.drop()
        rejected = sum(staging.rejected.values())
        if loaded + rejected + already != staging.read:
            raise UbpError(
                f"{self._file}: loaded {loaded} + rejected {rejected} + already there {already} is not read"
                f" {staging.read}; nothing was loaded",
                "a trigger or rule on ubp.events may drop rows; if there is none, please report this",
            )
        cursor.execute(
            "update ubp.loads set rows_read = %s, rows_loaded = %s, rows_rejected = %s, rows_already = %s,"
            " finished_at = clock_timestamp() where load_id = %s",
            (staging.read, loaded, rejected, already, load_id),
        )
        return self._result(load_id, staging.read, loaded, rejected, already, began, staging.rejected)

    def _record(self, cursor: Cursor, source: Source, sha256: str) -> int:
        cursor.execute(
            "insert into ubp.loads (source_id, file, content_sha256, rows_read, rows_loaded, rows_rejected,"
            " rows_already, started_at) values (%s, %s, %s, 0, 0, 0, 0, clock_timestamp()) returning load_id",
            (source.source_id, str(self._file), sha256),
        )
        row = cursor.fetchone()
        return int(str(row[0])) if row else 0

    def _read(self, staging: Staging, batches: Iterator[list[Row]]) -> None:
        self._tell("reading")
        with contextlib.closing(prefetch(batches)) as ready:
            for batch in ready:
                staging.add(batch)
                self._rows = staging.read
                self._tell("reading")

    def _publish(self, cursor: Cursor, source: Source) -> tuple[int, int]:
        """From ubp_typed to ubp.events: (rows loaded, rows that were there already)."""
        self._tell("writing events")
        already = drop_known_keys(cursor, source.source_id) if self._map.keys else 0
        cursor.execute("analyze pg_temp.ubp_typed (user_key, item_key)")
        tables = [
            assign_ids(cursor, "users", source, self._map.user_keys),
            assign_ids(cursor, "items", source, self._map.item_keys),
        ]
        cursor.execute(_PARTITIONS)
        cursor.execute(_PUBLISH, (source.source_id,))
        loaded = cursor.rowcount
        for name in tables:
            cursor.execute(sql.SQL("drop table pg_temp.{}").format(sql.Identifier(name)))
        return loaded, already

    def _result(
        self, load_id: int, read: int, loaded: int, rejected: int, already: int, began: float, reasons: dict[str, int]
    ) -> LoadResult:
        seconds = round(time.perf_counter() - began, 3)
        by_reason = dict(sorted(reasons.items(), key=lambda pair: -pair[1]))
        return LoadResult(
            self._map.source, str(self._file), load_id, read, loaded, rejected, already, seconds, by_reason
        )

    def _analyze(self) -> None:
        """Fresh statistics, where this role owns the table; others leave it to autovacuum."""
        self._tell("analysing")
        with self._conn.transaction(), self._conn.cursor(row_factory=tuple_row) as cursor:
            cursor.execute("select pg_has_role(relowner, 'usage') from pg_class where oid = 'ubp.events'::regclass")
            if cursor.fetchone() == (True,):
                cursor.execute(_ANALYZE)
