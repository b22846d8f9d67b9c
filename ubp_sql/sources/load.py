"""Load one file through a map into ubp.events: in parts, each one transaction, every row accounted for."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from ubp_sql.errors import SourceError, UbpError
from ubp_sql.sources.compiled import Compiled
from ubp_sql.sources.database import database_errors
from ubp_sql.sources.identity import Cursor, lock_part, lock_source, unlock_source
from ubp_sql.sources.lines import Content
from ubp_sql.sources.load_map import LoadMap
from ubp_sql.sources.parts import Parts, Plan
from ubp_sql.sources.readers import open_reader
from ubp_sql.sources.records import Counts, Part, find_part, find_record, known_ends, rejected_examples
from ubp_sql.sources.rows import prefetch

NOTHING = "nothing was loaded"
ANALYZE_FROM = 10_000  # rows; fewer change no plan
# Columns that plans depend on; all of them would cost 1.0 s instead of 0.3 for Online Retail.
_ANALYZE = "analyze ubp.events (user_id, event_time, kind, item_id)"


@dataclass(frozen=True)
class Progress:
    """Where a load is: bytes of the stored file (rows of a Parquet file), rows read so far, and what is being done.

    kept, line  rows that are committed, of this and earlier loads, and the line up to which they are
    """

    phase: str
    position: int
    size: int
    rows: int
    kept: int = 0
    line: int = 0


@dataclass(frozen=True)
class LoadResult:
    """What became of a file's rows: loaded + rejected + already = read.

    anonymous       of the loaded those without a user, in ubp.anonymous_events
    known_since     the content was loaded by `load_id` then (ISO, UTC), and was not read again
    continued_line  the line up to which earlier loads had read; their rows count as rejected or already there
    examples        reason -> the first three (line, raw text); of a dry run only, a load leaves them in the database
    """

    source: str
    file: str
    load_id: int
    read: int
    loaded: int
    rejected: int
    already: int
    seconds: float
    anonymous: int = 0
    parts: int = 0
    continued_line: int = 0
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
    shown: str | None = None,
) -> LoadResult:
    """Load `file` in parts of some 200,000 rows, each committed with its record; a rerun goes on behind the last.

    A connection that is in a transaction gets a savepoint, and its caller commits. A file that the source has loaded
    before adds nothing: told by the map's keys row by row, without keys by the hash of its decompressed bytes; one that
    has grown is read on from where it ended. Content of which no row could be loaded does not count. `dry_run` does
    everything in one transaction and rolls it back. `shown` is the file's name in messages and records.

    Raises SourceError (UB012) for a file that cannot be read, MapError (UB008) for a map that does not fit it,
    NotReady (UB005) without the schema, InstallError (UB011) without rights; the message says what is in by then.
    """
    return _Load(conn, file, load_map, progress, shown or str(file)).run(dry_run)


class _Load:
    def __init__(
        self,
        conn: psycopg.Connection[tuple[object, ...]],
        file: Path,
        load_map: LoadMap,
        progress: Callable[[Progress], None] | None,
        shown: str,
    ) -> None:
        self._conn, self._map, self._progress, self._shown = conn, load_map, progress, shown
        self._reader = open_reader(file, load_map, shown)
        self._plan: Plan | None = None
        self._one = False  # one transaction for all

    def run(self, dry_run: bool) -> LoadResult:
        began = time.perf_counter()
        try:
            with database_errors(self._conn):
                nested = self._conn.info.transaction_status != TransactionStatus.IDLE
                with contextlib.ExitStack() as stack:
                    if dry_run or nested:
                        stack.enter_context(self._conn.transaction())
                    self._one = dry_run or nested
                    result = self._locked(dry_run)
                    if dry_run:
                        raise psycopg.Rollback()
        except UbpError as error:
            if self._one or self._plan is None or not self._plan.parts:
                raise
            raise self._with_what_is_in(error) from error
        return dataclasses.replace(result, seconds=round(time.perf_counter() - began, 3))

    def _locked(self, dry_run: bool) -> LoadResult:
        """The load, with the source to itself."""
        name = self._map.source
        with self._transaction() as cursor:
            if not lock_source(cursor, name, wait=False, session=not self._one):
                self._tell("waiting for another load of this source", 0)
                lock_source(cursor, name, wait=True, session=not self._one)
        try:
            result = self._load(dry_run)
        finally:
            if not self._one:
                with contextlib.suppress(psycopg.Error), self._transaction() as cursor:
                    unlock_source(cursor, name)
        if result.loaded >= ANALYZE_FROM and not dry_run:
            self._analyze()
        return result

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Cursor]:
        with self._conn.transaction(), self._conn.cursor(row_factory=tuple_row) as cursor:
            yield cursor

    def _tell(self, phase: str, rows: int) -> None:
        if self._progress is not None:
            kept, line = self._in()
            self._progress(Progress(phase, self._reader.position, self._reader.size, rows, kept, line))

    def _in(self) -> tuple[int, int]:
        """Rows that are committed, and up to which line."""
        plan = self._plan
        if plan is None or self._one:
            return 0, 0
        return plan.before.read + plan.done.read, plan.line

    def _load(self, dry_run: bool) -> LoadResult:
        name = self._map.source
        with self._transaction() as cursor:
            lock_part(cursor, name)
            ends = known_ends(cursor, name)
        content = self._reader.scan(ends)
        with self._transaction() as cursor:
            content, part = self._beginning(cursor, content)
            record = find_record(cursor, name, content.sha256)
        if self._map.keys and not (part and part.open and not (record and record.finished)):
            content, part = content.unknown(), None  # its rows are known by their keys
        elif part and content.known == content.size:
            return self._known(part.load_id, part.counts, part.at)
        elif record and record.finished and record.counts.loaded:  # of a release that kept no parts
            return self._known(record.load_id, record.counts, record.at)
        columns, header, types = self._reader.columns()
        plan = Plan(content, part, record, Compiled(self._map, columns, header, types), self._shown)
        if part:
            plan.before, plan.line = part.counts, part.line
        self._plan, first = plan, plan.line
        batches = self._reader.batches(plan.compiled.used, content, first)
        self._tell("reading", 0)
        parts = Parts(self._conn, plan, self._tell, inside=self._one, dry_run=dry_run)
        with contextlib.closing(prefetch(batches)) as ready:
            parts.run(ready)
        assert plan.rejections  # noqa: S101 - every file has a part, if an empty one
        total = plan.before.known() + plan.done
        warnings = list(self._reader.warnings)
        if reason := next((r for r in plan.rejections.by_reason if r.startswith("user key is not an integer")), None):
            warnings.append(
                f"{plan.rejections.by_reason[reason]:,} rows have a user key that is no integer, and the first part of"
                f" the first load made keys of {name} integers: `user_keys: text` and another source name take both"
            )
        with self._transaction() as cursor:
            examples = rejected_examples(cursor, plan.load_id) if dry_run else {}
        return dataclasses.replace(
            self._result(plan.load_id, total),
            parts=plan.parts,
            continued_line=first,
            rejected_by_reason=dict(sorted(plan.rejections.by_reason.items(), key=lambda pair: -pair[1])),
            examples=examples,
            warnings=warnings,
        )

    def _beginning(self, cursor: Cursor, content: Content) -> tuple[Content, Part | None]:
        """The part that the longest known beginning ends with.

        A last line that had no end when it was loaded and goes on now is read anew if no row came of it.
        """
        while content.beginnings:
            position, digest = content.beginnings[-1]
            part = find_part(cursor, self._map.source, position, digest.hexdigest())
            if not self._reader.cut_in_line(content):
                return content, part
            if part.usable:
                raise SourceError(
                    f"{self._shown}: line {part.line} was loaded when it had no end yet, and goes on now; {NOTHING}",
                    f"take that load back (ubp-sql load --undo {part.load_id}) and load the file again; keys in the map"
                    " avoid it",
                )
            content = content.without_last()
        return content, None

    def _known(self, load_id: int, counts: Counts, at: str) -> LoadResult:
        result = self._result(load_id, counts.known())
        return dataclasses.replace(result, known_since=at, warnings=list(self._reader.warnings))

    def _result(self, load_id: int, counts: Counts) -> LoadResult:
        return LoadResult(
            self._map.source, self._shown, load_id, counts.read, counts.loaded, counts.rejected, counts.already, 0.0,
            anonymous=counts.anonymous,
        )  # fmt: skip

    def _with_what_is_in(self, error: UbpError) -> UbpError:
        rows, line = self._in()
        note = f"{rows:,} rows up to line {line:,} are in, and a rerun goes on behind them"
        message, hint = error.message, error.hint
        if NOTHING not in f"{message}{hint}":
            message = f"{message}; {NOTHING}"
        return type(error)(message.replace(NOTHING, note), hint.replace(NOTHING, note) if hint else None)

    def _analyze(self) -> None:
        """Fresh statistics, where this role owns the table; others leave it to autovacuum."""
        self._tell("analysing", self._plan.done.read if self._plan else 0)
        with self._transaction() as cursor:
            cursor.execute("select pg_has_role(relowner, 'usage') from pg_class where oid = 'ubp.events'::regclass")
            if cursor.fetchone() == (True,):
                cursor.execute(_ANALYZE)
