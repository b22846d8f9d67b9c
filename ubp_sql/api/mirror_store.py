"""The mirror's tables: its state, its runs, chunks in and out."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api.session import run, single
from ubp_sql.features.columns import Declared

if TYPE_CHECKING:
    from ubp_sql.mirror.encode import Meta
    from ubp_sql.mirror.layout import Block
    from ubp_sql.mirror.merge import Cursor

LOCK = "select pg_advisory_xact_lock(hashtextextended('ubp.mirror', 0))"
LOCK_SHARED = "select pg_advisory_xact_lock_shared(hashtextextended('ubp.mirror', 0))"
STATE = """
select s.enabled, s.built, s.version, row_security_active('ubp.events') as row_security,
       (select count(*) from (select from ubp.event_log limit $1) l) as pending
  from ubp.mirror_state s"""
# A number that no transaction had before, also not one that was rolled back: sessions keep what they read by version.
CHANGED = """
update ubp.mirror_state set version = nextval('ubp.mirror_runs_run_id_seq'), built = $1, folded_at = clock_timestamp(),
       built_at = case when $2 then clock_timestamp() else built_at end"""
RUNS = "select run_id, place, events, users from ubp.mirror_runs order by place"
METAS = """
select chunk_id, first_user, last_user, part, n, users, max_ingested_us, complete, kind_all, offset_all,
       forms
  from ubp.mirror_chunks where run_id = $1 order by first_user, part"""
# A column that is not asked for is not fetched: CASE leaves its value where it lies.
CHUNKS = """
select chunk_id, user_ids, firsts, complete_users, t,
       case when $2 & 1 > 0 then ingested end as ingested, case when $2 & 2 > 0 then event_id end as event_id,
       case when $2 & 4 > 0 then kind end as kind, case when $2 & 8 > 0 then item end as item,
       case when $2 & 16 > 0 then order_key end as order_key, case when $2 & 32 > 0 then value end as value,
       case when $2 & 64 > 0 then quantity end as quantity, case when $2 & 128 > 0 then duration_s end as duration_s,
       case when $2 & 256 > 0 then offset_s end as offset_s, case when $2 & 512 > 0 then extras end as extras
  from ubp.mirror_chunks where chunk_id = any ($1)"""
BITS = ("ingested", "event_id", "kind", "item", "order", "value", "quantity", "duration_s", "offset_s")
EXTRAS = 512
CHUNKS_A_QUERY = 8
"""What these hold of four columns fits into a cache of the second level or little more."""
NEW_RUN = """
insert into ubp.mirror_runs (place, events, users, made_by)
values (coalesce($1, (select max(place) + 1 from ubp.mirror_runs), 1), 0, 0, $2) returning run_id"""
RUN_DONE = "update ubp.mirror_runs set events = $2, users = $3, unknown_sources = $4 where run_id = $1"
NEW_CHUNK = """
insert into ubp.mirror_chunks (run_id, part, first_user, last_user, n, users, min_us, max_us, max_ingested_us, user_ids,
       firsts, complete, complete_users, kind_all, kind, offset_all, offset_s, t, event_id, ingested, order_key, item,
       value, quantity, duration_s, extras, forms)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
        $25, $26, $27)"""
PACKED = ["bytea"] * 9
CHUNK_TYPES = ["bigint", "integer", "bigint", "bigint", "integer", "integer", "bigint", "bigint", "bigint", "bytea"]
CHUNK_TYPES += ["bytea", "boolean", "bytea", "integer", "bytea", "integer", *PACKED, "bytea[]", "bytea"]
DELETE_CHUNKS = "delete from ubp.mirror_chunks where run_id = any ($1)"
DELETE_RUNS = "delete from ubp.mirror_runs where run_id = any ($1)"
LOWEST, HIGHEST = -(2**63), 2**63 - 1


class State(NamedTuple):
    """Row of ubp.mirror_state; `pending`: rows of the event log, up to the limit asked for."""

    enabled: bool
    built: bool
    version: int
    row_security: bool
    pending: int


class Run(NamedTuple):
    """Row of ubp.mirror_runs."""

    run_id: int
    place: int
    events: int
    users: int


def state(plpy: Any, memory: dict[str, Any], most_pending: int = 1) -> State:
    """How the mirror is."""
    row = single(plpy, memory, STATE, ["integer"], [most_pending])
    if row is None:
        return State(False, False, 0, False, 0)
    return State(row["enabled"], row["built"], row["version"], row["row_security"], row["pending"])


def runs(plpy: Any, memory: dict[str, Any]) -> list[Run]:
    """All runs, oldest first."""
    found = run(plpy, memory, RUNS, [], [])
    return [Run(row["run_id"], row["place"], row["events"], row["users"]) for row in found]


def metas(plpy: Any, memory: dict[str, Any], run_id: int) -> "list[Meta]":
    """The chunks of a run, in order."""
    from ubp_sql.mirror.encode import Meta

    found = run(plpy, memory, METAS, ["bigint"], [run_id])
    return [Meta(*(row[name] for name in Meta._fields)) for row in found]


def metas_of_runs(plpy: Any, memory: dict[str, Any]) -> "Iterator[list[Meta]]":
    """The chunks of each run, oldest first."""
    for one in runs(plpy, memory):
        yield metas(plpy, memory, one.run_id)


def chunk_rows(
    plpy: Any, memory: dict[str, Any], chunks: "Sequence[Meta]", names: Sequence[str]
) -> "Iterator[tuple[Meta, dict[str, Any]]]":
    """The chunks with the columns asked for, in the order given."""
    bits = sum(1 << bit for bit, name in enumerate(BITS) if name in names)
    if any(name != "t" and name not in BITS for name in names):
        bits |= EXTRAS
    for start in range(0, len(chunks), CHUNKS_A_QUERY):
        part = chunks[start : start + CHUNKS_A_QUERY]
        ids = [meta.chunk_id for meta in part]
        found = {row["chunk_id"]: row for row in run(plpy, memory, CHUNKS, ["bigint[]", "integer"], [ids, bits])}
        for meta in part:
            yield meta, found[meta.chunk_id]


def events_in(chunks: "Sequence[Meta]") -> int:
    """Events of some chunks."""
    return sum(meta.n for meta in chunks)


def cursor(
    plpy: Any,
    memory: dict[str, Any],
    chunks: "Sequence[Meta]",
    names: Sequence[str],
    declared: Sequence[Declared],
    together: int,
) -> "Cursor":
    """A run's chunks as a source to merge."""
    from ubp_sql.mirror.encode import blocks_of, decode
    from ubp_sql.mirror.merge import Cursor

    def blocks() -> "Iterator[tuple[Block, bool]]":
        for group, goes_on in blocks_of(chunks, together):
            rows = chunk_rows(plpy, memory, group, names)
            yield decode(events_in(group), rows, names, declared), goes_on

    return Cursor(blocks())


class RunWriter:
    """Writes a run from a stream of blocks.

    place     where it stands among the runs; None: newest
    oldest    it is the oldest: its entries hold all there is of their users, and users without events are left out
    """

    def __init__(
        self,
        plpy: Any,
        memory: dict[str, Any],
        made_by: str,
        declared: Sequence[Declared],
        place: int | None = None,
        *,
        oldest: bool = False,
        unknown_sources: bool = False,
    ) -> None:
        from ubp_sql.mirror.encode import Cutter

        self._plpy, self._memory, self._declared, self._oldest = plpy, memory, declared, oldest
        made = single(plpy, memory, NEW_RUN, ["bigint", "text"], [place, made_by])
        self.run_id: int = made["run_id"] if made else 0
        self.events = self.users = 0
        self.unknown_sources = unknown_sources
        self._cutter = Cutter(self._write)

    def add(self, block: "Block") -> None:
        """The next block of the stream."""
        import numpy as np

        if self._oldest:
            block = block.take(block.sizes > 0)
            block = replace(block, complete=np.ones(len(block.user_id), np.bool_))
        if len(block.user_id):
            self._cutter.add(block)

    def close(self) -> None:
        """Writes what is left, and the run's figures."""
        self._cutter.close()
        arguments = [self.run_id, self.events, self.users, self.unknown_sources]
        run(self._plpy, self._memory, RUN_DONE, ["bigint", "bigint", "bigint", "boolean"], arguments)

    def _write(self, block: "Block", part: int) -> None:
        from ubp_sql.mirror.encode import encode

        row = encode(block, self._declared)
        self.events += block.n
        self.users += len(block.user_id) if part == 0 else 0
        arguments = [self.run_id, part, row["first_user"], row["last_user"], row["n"], row["users"], row["min_us"]]
        arguments += [row["max_us"], row["max_ingested_us"], row["user_ids"], row["firsts"], row["complete"]]
        arguments += [row["complete_users"], row["kind_all"], row["kind"], row["offset_all"], row["offset_s"], row["t"]]
        arguments += [row["event_id"], row["ingested"], row["order_key"], row["item"], row["value"], row["quantity"]]
        arguments += [row["duration_s"], row["extras"], row["forms"]]
        run(self._plpy, self._memory, NEW_CHUNK, CHUNK_TYPES, arguments)


def delete_runs(plpy: Any, memory: dict[str, Any], ids: list[int]) -> None:
    """Removes runs with their chunks."""
    run(plpy, memory, DELETE_CHUNKS, ["bigint[]"], [ids])
    run(plpy, memory, DELETE_RUNS, ["bigint[]"], [ids])


def changed(plpy: Any, memory: dict[str, Any], *, built: bool, anew: bool = False) -> None:
    """Gives the mirror a new version."""
    run(plpy, memory, CHANGED, ["boolean", "boolean"], [built, anew])


def temporary_folder() -> Path:
    """Where the server keeps its own temporary files; a backend's working directory is the data directory."""
    return Path.cwd() / "base" / "pgsql_tmp"
