"""Some users' events of one run of the mirror: slices of chunks, fetched many at a time.

A session keeps the directories of chunks, which never change and whose numbers are never used again.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ubp_sql.api.session import run
from ubp_sql.features.columns import Declared

if TYPE_CHECKING:
    from ubp_sql.kernels.dispatch import I32, I64
    from ubp_sql.mirror.encode import Meta
    from ubp_sql.mirror.layout import Block
    from ubp_sql.mirror.pieces import Directory, Pieces

DIRECTORIES = """
select c.chunk_id, c.user_ids, c.firsts, c.complete_users from ubp.mirror_chunks c where c.chunk_id = any ($1)"""
# The subquery's order is that of its aggregates; a column that the chunk has not is skipped, and its bit is 0.
FETCH = """
select string_agg(int4send({marks}), '') as marks, {aggregates}
  from (select {slices}
          from unnest($1::bigint[], $2::integer[], $3::integer[]) with ordinality as p (chunk_id, low, n, place)
          join ubp.mirror_chunks c on c.chunk_id = p.chunk_id
         order by p.place) x"""
FETCH_TYPES = ["bigint[]", "integer[]", "integer[]"]
MARK = "((x.c{bit} is not null)::integer << {bit})"
AGGREGATE = "string_agg(x.c{bit}, '') as c{bit}"
# The first byte of a column's form is how many bytes each of its values takes.
SLICE = """
substr(c.{column}, get_byte(c.forms, {at}) * p.low + 1, get_byte(c.forms, {at}) * p.n) as c{bit}"""
COLUMNS = ("t", "ingested", "event_id", "kind", "item", "order_key", "value", "quantity", "duration_s", "offset_s")
"""As the table names those of every event, in the order of their forms."""
MOST_COLUMNS = 30
"""Bits of a mark."""
CHUNKS_AT_A_TIME = 16
"""Chunks that share a directory: about a quarter of a million events, which is what is fetched at a time, too: more of
one user's would keep a cancel waiting for longer than it may."""
FETCH_EVENTS = 1 << 18
KEPT = "ubp.mirror directories"
KEPT_BYTES = 128 << 20
"""Of directories, in a session: those of ten million users."""


def slices_of(
    plpy: Any,
    memory: dict[str, Any],
    chunks: "Sequence[Meta]",
    names: Sequence[str],
    declared: Sequence[Declared],
    places: "I32",
    wanted: "I64",
) -> "Iterator[Block]":
    """Events of the wanted users (ascending, each once), and entries that void those of older runs.

    chunks    all of the run
    names     columns, `t` first
    declared  all that chunks hold
    places    what a kind becomes, by its code
    """
    from ubp_sql.mirror.pieces import find

    held: list[Pieces] = []
    events = 0
    for number in range(0, len(chunks), CHUNKS_AT_A_TIME):
        part = chunks[number : number + CHUNKS_AT_A_TIME]
        low, high = wanted.searchsorted(part[0].first_user), wanted.searchsorted(part[-1].last_user, "right")
        if low == high:
            continue
        found = find(_directory(plpy, memory, part), wanted[low:high])
        if not len(found.user_id):
            continue
        held.append(found)
        events += found.events
        if events >= FETCH_EVENTS:
            yield _fetched(plpy, memory, held, names, declared, places)
            held, events = [], 0
    if held:
        yield _fetched(plpy, memory, held, names, declared, places)


def _fetched(
    plpy: Any,
    memory: dict[str, Any],
    found: "Sequence[Pieces]",
    names: Sequence[str],
    declared: Sequence[Declared],
    places: "I32",
) -> "Block":
    from ubp_sql.mirror.pieces import Answer, block_of, together

    pieces = together(found)
    arguments = [pieces.chunk_id.tolist(), pieces.begin.tolist(), pieces.n.tolist()]
    answers = []
    for low in range(0, len(names), MOST_COLUMNS):
        part = names[low : low + MOST_COLUMNS]
        row = run(plpy, memory, query_of(part, declared), FETCH_TYPES, arguments)[0]
        answers.append(Answer(row["marks"], {name: row[f"c{bit}"] for bit, name in enumerate(part)}))
    return block_of(pieces, answers, declared, places)


def query_of(names: Sequence[str], declared: Sequence[Declared]) -> str:
    """FETCH with some columns."""
    from ubp_sql.mirror.encode import FORM_BYTES
    from ubp_sql.mirror.layout import BASE

    every = [*BASE, *(column.name for column in declared)]
    stored = [*COLUMNS, *(f"extras[{number}]" for number in range(1, len(declared) + 1))]
    places = [every.index(name) for name in names]
    return FETCH.format(
        marks=" | ".join(MARK.format(bit=bit) for bit in range(len(names))),
        aggregates=", ".join(AGGREGATE.format(bit=bit) for bit in range(len(names))),
        slices=", ".join(
            SLICE.format(column=stored[place], at=FORM_BYTES * place, bit=bit) for bit, place in enumerate(places)
        ),
    )


def _directory(plpy: Any, memory: dict[str, Any], chunks: "Sequence[Meta]") -> "Directory":
    """Of chunks that follow each other; kept by the number of the first."""
    from ubp_sql.mirror.pieces import Directory

    kept: OrderedDict[int, Directory] = memory.setdefault(KEPT, OrderedDict())
    known = kept.pop(chunks[0].chunk_id, None)
    if known is None:
        ids = [meta.chunk_id for meta in chunks]
        rows = {row["chunk_id"]: row for row in run(plpy, memory, DIRECTORIES, ["bigint[]"], [ids])}
        known = Directory.of([(meta, rows[meta.chunk_id]) for meta in chunks])
        size = known.nbytes + sum(other.nbytes for other in kept.values())
        while kept and size > KEPT_BYTES:
            size -= kept.popitem(last=False)[1].nbytes
    kept[chunks[0].chunk_id] = known
    return known
