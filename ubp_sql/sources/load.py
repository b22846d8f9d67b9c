"""Load one file through a map into ubp.events: one transaction, every row accounted for."""

import contextlib
import dataclasses
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
from ubp_sql.sources.partitions import make_partitions
from ubp_sql.sources.records import close_record, find_record, open_record, rejected_examples
from ubp_sql.sources.rows import CsvRows, Row, jsonl_batches, prefetch
from ubp_sql.sources.staging import Staging
from ubp_sql.sources.statements import Target

ANALYZE_FROM = 10_000  # rows; fewer change no plan
# Columns that plans depend on; all of them would cost 1.0 s instead of 0.3 for Online Retail.
_ANALYZE = "analyze ubp.events (user_id, event_time, kind, item_id)"
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
    """What became of a file's rows: loaded + rejected + already = read.

    known_since   the content was loaded by `load_id` then (ISO, UTC), and was not read again
    examples      reason -> the first three (line, raw text); of a dry run only, a load leaves them in the database
    """

    source: str
    file: str
    load_id: int
    read: int
    loaded: int
    rejected: int
    already: int
    seconds: float
    rejected_by_reason: dict[str, int] = field(default_factory=dict)
    known_since: str | None = None
    examples: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


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
    hash of its decompressed bytes; content of which no row could be loaded does not count. `dry_run` does everything
    and then rolls back.

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
                    result = self._load(cursor, sha256, dry_run, nested)
                if dry_run:
                    raise psycopg.Rollback()
            if result.loaded >= ANALYZE_FROM and not dry_run:
                self._analyze()
        return dataclasses.replace(result, seconds=round(time.perf_counter() - began, 3))

    def _tell(self, phase: str) -> None:
        if self._progress is not None:
            self._progress(Progress(phase, self._lines.position, self._lines.size, self._rows))

    def _load(self, cursor: Cursor, sha256: str, dry_run: bool, nested: bool) -> LoadResult:
        if not lock_source(cursor, self._map.source, wait=False):
            self._tell("waiting for another load of this source")
            lock_source(cursor, self._map.source, wait=True)
        source = open_source(cursor, self._map)
        before = find_record(cursor, source.source_id, sha256)
        if before and before.loaded and not self._map.keys:
            result = self._result(before.load_id, before.read, 0, before.rejected, before.loaded + before.already)
            return dataclasses.replace(result, known_since=before.at)
        file = str(self._file)
        load_id = before.load_id if before else open_record(cursor, source.source_id, file, sha256)
        if self._map.format == "csv":
            rows = CsvRows(self._lines.blocks(sha256), self._map, file)
            compiled = Compiled(self._map, rows.columns, rows.header)
            batches = rows.batches(compiled.used)
        else:
            compiled = Compiled(self._map, ["doc", "record"], ["doc", "record"])
            batches = jsonl_batches(self._lines.blocks(sha256))
        integer_users = (source.user_keys or self._map.user_keys) == "integer"
        target = Target(load_id, source.source_id, file, integer_users, before is not None)
        staging = Staging(cursor, compiled, target)
        self._read(staging, batches)
        self._tell("writing events")
        if not dry_run:  # in a dry run the default partition takes every row for the moment
            make_partitions(cursor, apart=not nested)
        loaded, already = self._publish(cursor, source)
        staging.drop()
        rejected = sum(staging.rejected.values())
        if loaded + rejected + already != staging.read:
            raise UbpError(
                f"{file}: loaded {loaded} + rejected {rejected} + already there {already} is not read"
                f" {staging.read}; nothing was loaded",
                "a trigger or rule on ubp.events may drop rows; if there is none, please report this",
            )
        close_record(cursor, load_id, staging.read, loaded, rejected, already)
        return dataclasses.replace(
            self._result(load_id, staging.read, loaded, rejected, already),
            rejected_by_reason=dict(sorted(staging.rejected.items(), key=lambda pair: -pair[1])),
            examples=rejected_examples(cursor, load_id) if dry_run else {},
        )

    def _read(self, staging: Staging, batches: Iterator[list[Row]]) -> None:
        self._tell("reading")
        with contextlib.closing(prefetch(batches)) as ready:
            for batch in ready:
                staging.add(batch)
                self._rows = staging.read
                self._tell("reading")

    def _publish(self, cursor: Cursor, source: Source) -> tuple[int, int]:
        """From ubp_typed to ubp.events: (rows loaded, rows that were there already)."""
        already = drop_known_keys(cursor, source.source_id) if self._map.keys else 0
        cursor.execute("analyze pg_temp.ubp_typed (user_key, item_key)")
        tables = [
            assign_ids(cursor, "users", source, self._map),
            assign_ids(cursor, "items", source, self._map),
        ]
        cursor.execute(_PUBLISH, (source.source_id,))
        loaded = cursor.rowcount
        for name in tables:
            cursor.execute(sql.SQL("drop table pg_temp.{}").format(sql.Identifier(name)))
        return loaded, already

    def _result(self, load_id: int, read: int, loaded: int, rejected: int, already: int) -> LoadResult:
        warnings = []
        if self._lines.looks_utf8:
            warnings.append(
                f"{self._file} is valid UTF-8, read as {self._map.encoding}: is encoding right? Letters beyond ASCII"
                " come out garbled if not"
            )
        counts = (load_id, read, loaded, rejected, already)
        return LoadResult(self._map.source, str(self._file), *counts, seconds=0.0, warnings=warnings)

    def _analyze(self) -> None:
        """Fresh statistics, where this role owns the table; others leave it to autovacuum."""
        self._tell("analysing")
        with self._conn.transaction(), self._conn.cursor(row_factory=tuple_row) as cursor:
            cursor.execute("select pg_has_role(relowner, 'usage') from pg_class where oid = 'ubp.events'::regclass")
            if cursor.fetchone() == (True,):
                cursor.execute(_ANALYZE)
