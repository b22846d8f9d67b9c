"""Fetches one user's events at a moment, ready for the native library.

The first query says whether what the session keeps is still right - the set's hash, the mirror's version, the event log
- and fetches a slice of the mirror; each further run that has some of the user's events takes another. All are of one
snapshot, for the functions that ask are STABLE.
"""

from __future__ import annotations

from array import array
from collections import namedtuple

from ubp_sql.api.live_query import PIECE_TYPES, PLACES, STATE_TYPES
from ubp_sql.api.live_set import LiveSet, live_set, load_set
from ubp_sql.api.session import Row, run, single
from ubp_sql.api.slices import Directory, Piece, Places
from ubp_sql.errors import BadInput
from ubp_sql.kernels.forms import WIDTH_MASK
from ubp_sql.kernels.live_layout import CHUNK, INGESTED, OTHERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_EVENTS = 1 << 16
"""Above, preparing the events could take longer than a cancel may: 0.8 µs each of a calm machine, twice that of a busy
one, in one piece."""
OFFSET_WORDS = 2 * PLACES["offset_s"]
DAY_US = 86_400_000_000
POSTGRES_EPOCH_US = 946_684_800_000_000
# 0001-01-02 to 9999-01-01, as moments.MOMENT has it.
FIRST_US, LAST_US = -62_135_510_400_000_000, 253_370_764_800_000_000

CALENDAR = """
select array_agg(distinct c.day - date '1970-01-01' order by c.day - date '1970-01-01') as days
  from ubp.feature_sets s join ubp.calendar c on c.kind = 'holiday' and c.region in ('', s.time_zone)
 where s.feature_set_id = $1"""


class Question(namedtuple("Question", ("user_id", "as_of_us", "weekday", "table", "packed"), defaults=(None, b""))):
    """Whose features at which moment, and his events.

    weekday  local, Monday 0
    table    as live_layout.py says; None: too many events for the native library, or there is no library
    packed   the columns that it speaks of
    """

    __slots__ = ()


def ask(
    plpy: Any,
    memory: dict[Any, Any],
    key: str | int,
    user_id: int | None,
    as_of: str | None,
    *,
    ids: bool = False,
    hypothetical: str | None = None,
) -> tuple[LiveSet, Question | None]:
    """The set of that name or number with the user's events; None for a NULL user and for one without events.

    ids           whether to read the ids of events in chunks, which as a rule nothing depends on
    hypothetical  further events, as hypothetical.py has them

    Raises BadInput (UB003) on a moment that is NULL, infinite or far.
    """
    if as_of is None:
        raise BadInput(
            "as_of is NULL", "give a moment, for example timestamptz '2011-11-09 00:00+00'; as_of is never guessed"
        )
    found = live_set(plpy, memory, key)
    places: Places = memory.get("places") or memory.setdefault("places", Places())
    while True:
        pieces = places.pieces(user_id) if user_id is not None else []
        if pieces is None and user_id is not None:
            pieces = places.learn(plpy, memory, user_id)
        some = pieces if pieces and found.native.usable and _few(pieces) else []
        chunks = _slices(plpy, memory, found, user_id, as_of, some, ids=ids or places.pending)
        row = chunks[0] if chunks else None
        if row is None or row["hash"] != found.hash or row.get("declared") != found.positions:
            found = load_set(plpy, memory, key)
            continue
        question = _question(row, user_id, as_of)
        if question is None:
            return found, None
        if not row["mirrored"]:
            return found, _heap(plpy, memory, found, question, hypothetical)
        pending, places.pending = places.pending, row["pending"]
        if row["version"] != places.version or len(chunks) < max(1, len(some)):
            places.learn(plpy, memory, question.user_id)
        elif pending or not row["pending"]:
            break  # else once more: chunks beside rows that are not in the mirror are merged by ids
    late: list[Row] | None = []
    if row["pending"]:
        from ubp_sql.api.live_rows import pending_rows

        late = pending_rows(plpy, memory, found, question.user_id)
    if late is None:
        return found, _heap(plpy, memory, found, question, hypothetical)
    late += _made_up(plpy, memory, found, question, hypothetical)
    if not pieces and not late:
        return found, None
    if not found.native.usable or len(some) < len(pieces or ()):
        return found, question
    slices = list(zip(chunks, [places.directories[piece.chunk_id] for piece in some], strict=False))
    return found, packed_question(plpy, memory, found, question, slices, late)


def _few(pieces: list[Piece]) -> bool:
    n = 0
    for piece in pieces:
        n += piece.n
    return n <= MOST_EVENTS


def _slices(
    plpy: Any,
    memory: dict[Any, Any],
    found: LiveSet,
    user_id: int | None,
    as_of: str,
    pieces: list[Piece],
    *,
    ids: bool,
) -> list[Row]:
    """A row for each piece, or one without a slice; in the first one also whether they are right."""
    state, linked, piece = found.with_ids if ids else found.without_ids
    state = linked if memory["places"].linked else state
    chunk_id, begin, n = pieces[0] if pieces else (None, 0, 0)
    rows = run(plpy, memory, state, STATE_TYPES, [found.feature_set_id, user_id, as_of, chunk_id, begin, n])
    if len(pieces) < 2 or not len(rows):  # none where the set is gone
        return list(rows)
    chunks = [rows[0]]
    for one in pieces[1:]:
        chunks += run(plpy, memory, piece, PIECE_TYPES, list(one))
    return chunks


def _question(row: Row, user_id: int | None, as_of: str) -> Question | None:
    as_of_us = int.from_bytes(row["as_of"], "big", signed=True) + POSTGRES_EPOCH_US
    if not FIRST_US <= as_of_us < LAST_US:
        raise BadInput(f"as_of is {as_of}", "give a moment between the years 1 and 9998")
    local_us = int.from_bytes(row["local"], "big", signed=True) + POSTGRES_EPOCH_US
    return None if user_id is None else Question(user_id, as_of_us, (local_us // DAY_US + 3) % 7)


def _made_up(
    plpy: Any, memory: dict[Any, Any], found: LiveSet, question: Question, hypothetical: str | None
) -> list[Row]:
    if not hypothetical:
        return []
    from ubp_sql.api.hypothetical import sent_rows

    return sent_rows(plpy, memory, found, question.user_id, hypothetical)


def _heap(
    plpy: Any, memory: dict[Any, Any], found: LiveSet, question: Question, hypothetical: str | None
) -> Question | None:
    if not found.native.usable:
        return question
    from ubp_sql.api.live_rows import all_rows

    rows = all_rows(plpy, memory, found, question.user_id)
    rows += _made_up(plpy, memory, found, question, hypothetical)
    return packed_question(plpy, memory, found, question, [], rows) if rows else None


def packed_question(
    plpy: Any,
    memory: dict[Any, Any],
    found: LiveSet,
    question: Question,
    chunks: list[tuple[Row, Directory]],
    late: list[Row],
) -> Question:
    """The question with its table: slices of chunks, and of rows that are not in them; without where they are many."""
    events = sum(len(row["t"]) >> 3 for row in late)
    events += sum(len(row["t"]) // (directory.forms[0] & WIDTH_MASK or 1) for row, directory in chunks)
    if events > MOST_EVENTS:
        return question
    head, columns = found.head(plpy, memory, memory["places"].version if chunks else None)
    longs: list[bytes] = []
    shorts: list[bytes] = []
    raw: list[bytes] = []
    table = head + columns
    table[0] = len(chunks) + len(late)
    table[5] = table[6] = question.as_of_us
    table[7] = question.weekday
    for row, directory in chunks:
        _add_chunk(found, row, directory, table, raw)
    if late:
        from ubp_sql.api.live_rows import add_sent

        for row in late:
            add_sent(found, row, table, longs, shorts)
    if found.plan.holidays:
        days = single(plpy, memory, CALENDAR, ["integer"], [found.feature_set_id])
        holidays = (days["days"] if days else None) or []
        table[4] = len(holidays)
        table += holidays
    packed = b"".join(longs + shorts + raw)
    return Question(question.user_id, question.as_of_us, question.weekday, array("q", table), packed)


def _add_chunk(found: LiveSet, row: Row, directory: Directory, table: list[int], raw: list[bytes]) -> None:
    """Appends the slice of a row of STATE or PIECE."""
    forms = directory.forms
    t, part = row["t"], row["ingested"]
    width = forms[0] & WIDTH_MASK
    raw.append(t)
    # The same moments as the time's where there is no column of its own; a width of 0 fits no column.
    words, same = [len(t) // width if width else -1, CHUNK, 0, forms[0], forms[1]], 0
    if part is None:
        same = 1 << INGESTED
        words += (0, 0)
    else:
        words += forms[2:4]
        raw.append(part)
    if "event_id" in row:
        words += forms[4:6]
        raw.append(row["event_id"])
    else:
        words += (0, 0)
    part = row["kind"]
    if part is None:
        words += (0, directory.kind_all)
    else:
        words += forms[6:8]
        raw.append(part)
    part = row["offset_s"] if found.plan.local else None
    if part is None:
        words += (0, directory.offset_all)
    else:
        words += forms[OFFSET_WORDS : OFFSET_WORDS + 2]
        raw.append(part)
    bit = 1 << OTHERS
    for name, extra, missing, place in found.columns:
        part = row[name] if extra < 0 else row["extras"] and row["extras"][extra]
        if part is not None:
            words += forms[place : place + 2]
            raw.append(part)
        else:
            words += (0, missing)
            if name == "order":
                same |= bit
        bit += bit
    words[2] = same
    table += words
