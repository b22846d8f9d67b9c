"""The parts of a load, one transaction each: rows, rejected rows and the part's record.

While one part is published, the next is staged on a second connection: half of a load's time is neither.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import psycopg
from psycopg.rows import tuple_row

from ubp_sql.errors import UbpError
from ubp_sql.sources.compiled import Compiled
from ubp_sql.sources.database import session_settings
from ubp_sql.sources.identity import Cursor, Source, lock_part, open_source
from ubp_sql.sources.lines import Content
from ubp_sql.sources.partitions import connect_beside, make_partitions, role_of
from ubp_sql.sources.publish import publish
from ubp_sql.sources.records import Counts, Part, Record, begin_again, finish_record, open_record, write_part
from ubp_sql.sources.rows import Batch, PartEnd
from ubp_sql.sources.staging import Rejections, Staging

Connection = psycopg.Connection[tuple[object, ...]]


@dataclass
class Plan:
    """What is loaded, from where on, into which record, and how far it has come.

    part      where the known beginning ends; record: of an earlier load of the same content
    before    counts of the known beginning; done: of the parts of this load
    line      the last that is committed
    reread    rows of a load of which some are in the database are looked at again, by their keys
    load_id, source, rejections are known from the first part on
    """

    content: Content
    part: Part | None
    record: Record | None
    compiled: Compiled
    shown: str
    before: Counts = field(default_factory=Counts)
    done: Counts = field(default_factory=Counts)
    line: int = 0
    parts: int = 0
    load_id: int = 0
    source: Source | None = None
    rejections: Rejections | None = None
    reread: bool = False


@dataclass
class _Staged:
    """A part in its temporary tables, and the transaction that it is in."""

    stack: contextlib.ExitStack
    conn: Connection
    cursor: Cursor
    staging: Staging
    source: Source
    first_line: int
    end: PartEnd


class Parts:
    """Takes batches to the database. `inside`: in one transaction of somebody else's; `dry_run`: that will go back."""

    def __init__(
        self, conn: Connection, plan: Plan, tell: Callable[[str, int], None], *, inside: bool, dry_run: bool
    ) -> None:
        self._conn, self._plan, self._tell = conn, plan, tell
        self._inside, self._dry_run = inside, dry_run
        self._beside: Connection | None = None
        self._role = "none"
        self._alone = inside
        self._staged_rows, self._staged_line = 0, plan.line

    def run(self, batches: Iterator[Batch]) -> None:
        """All of them. What was committed when it raises is in the plan."""
        under_way: tuple[Connection, Future[None]] | None = None
        with contextlib.ExitStack() as stack:
            stack.callback(self._close)
            pool = stack.enter_context(ThreadPoolExecutor(1, "ubp-load-publisher"))
            for batch in batches:
                staged = self._stage(self._free(under_way), batch, batches)
                try:
                    if under_way:
                        under_way[1].result()
                    self._tell("writing events", self._staged_rows)
                except BaseException:
                    staged.stack.__exit__(*sys.exc_info())
                    raise
                # The first part makes the records, the first keys decide how the next are read.
                if self._alone or self._plan.source is None or staged.source.user_keys is None:
                    under_way = None
                    self._publish(staged)
                else:
                    under_way = staged.conn, pool.submit(self._publish, staged)
            if under_way:
                under_way[1].result()

    def _close(self) -> None:
        if self._beside:
            self._beside.close()

    def _free(self, under_way: tuple[Connection, Future[None]] | None) -> Connection:
        """The connection that does not publish; a second one is opened when it is first needed."""
        if under_way is None or under_way[0] is self._beside:
            return self._conn
        if self._beside is None:
            self._beside = connect_beside(self._conn, self._role)
        if self._beside is None:
            under_way[1].result()
            self._alone = True
            return self._conn
        return self._beside

    def _stage(self, conn: Connection, batch: Batch, batches: Iterator[Batch]) -> _Staged:
        """Read up to the end of a part."""
        plan = self._plan
        with contextlib.ExitStack() as stack:
            stack.enter_context(conn.transaction())
            cursor = stack.enter_context(conn.cursor(row_factory=tuple_row))
            stack.enter_context(session_settings(cursor, plan.compiled.map, restore=self._inside))
            first = plan.source is None
            if first:
                self._role = role_of(cursor)
            source = plan.source or self._open(cursor)
            assert plan.rejections  # noqa: S101 - made by _open
            staging = Staging(
                cursor,
                plan.compiled,
                plan.rejections,
                integer_users=(source.user_keys or plan.compiled.map.user_keys) == "integer",
                check=first,
            )
            while True:
                staging.add(batch)
                self._tell("reading", self._staged_rows + staging.read)
                if batch.end:
                    break
                batch = next(batches)
            staging.keep_usable()
            self._staged_rows += staging.read
            begin, self._staged_line = self._staged_line + 1, batch.end.line
            return _Staged(stack.pop_all(), conn, cursor, staging, source, begin, batch.end)
        raise AssertionError  # pragma: no cover - an ExitStack swallows nothing here

    def _publish(self, staged: _Staged) -> None:
        """From the temporary tables to ubp.events, and commit."""
        plan, cursor, staging = self._plan, staged.cursor, staged.staging
        with staged.stack:
            lock_part(cursor, plan.compiled.map.source)
            if not self._dry_run:  # in a dry run the default partition takes every row for the moment
                make_partitions(cursor, apart=not self._inside)
            source, loaded, anonymous, already, ids = publish(cursor, staged.source, plan.compiled.map, plan.load_id)
            counts = Counts(staging.read, loaded, staging.rejected, already, anonymous)
            staging.drop()
            self._record(staged, counts, ids)
        plan.source = source
        plan.done += counts
        plan.line, plan.parts = staged.end.line, plan.parts + 1

    def _open(self, cursor: Cursor) -> Source:
        """The source's row and the load's, at its first part."""
        plan = self._plan
        source, record, part = open_source(cursor, plan.compiled.map), plan.record, plan.part
        again = record is not None and part is None
        if record is not None:
            plan.load_id = record.load_id
            plan.reread = again and record.counts.loaded > 0
            if again and not plan.reread:
                begin_again(cursor, plan.load_id)
        else:
            continues = part.load_id if part else None
            plan.load_id = open_record(cursor, source.source_id, plan.shown, plan.content.sha256, continues)
        plan.rejections = Rejections(plan.load_id, source.source_id, plan.shown, again)
        return source

    def _record(self, staged: _Staged, counts: Counts, ids: list[int | None]) -> None:
        plan, end = self._plan, staged.end
        if counts.loaded + counts.rejected + counts.already != counts.read:
            raise UbpError(
                f"{plan.shown}: loaded {counts.loaded} + rejected {counts.rejected} + already there {counts.already} is"
                f" not read {counts.read}; nothing was loaded",
                "a trigger or rule on ubp.events may drop rows; if there is none, please report this",
            )
        # A second run with keys that adds nothing leaves the record as it is.
        if not plan.reread or counts.loaded:
            total = plan.before + plan.done + counts
            write_part(staged.cursor, plan.load_id, staged.first_line, end, counts, total, ids)
        ended = plan.record is not None and plan.record.finished
        if end.position == plan.content.size and not (ended and plan.reread and not plan.done.loaded + counts.loaded):
            finish_record(staged.cursor, plan.load_id)
