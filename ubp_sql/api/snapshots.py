"""Whether two calls see the same rows: a value to compare, read from the server's own memory.

Two calls of one session see the same of every table if these are equal:

- xmin, xmax, the numbers of transactions in progress, and how it was taken, of the snapshot in force. Below xmax no
  transaction begins, they only end, so that equal numbers in progress are the same ones; whatever ends and has written
  makes xmax or a number another;
- the own transaction, which is not among those: it may end without a trace in them, where a later one has ended before,
  and command ids begin anew with the next;
- its command id: what the own transaction wrote before belongs to lower ones. It never goes back;
- the subtransaction: after ROLLBACK TO, or at the end of a block with EXCEPTION, the number is another, and none comes
  again in one transaction.

PostgreSQL gives SQL no cheap access to them (pg_current_snapshot() in a query takes 4 µs and tells nothing of the
command), but exports functions that do: they take no arguments, raise nothing and write nothing. The layout of
SnapshotData is the same in PostgreSQL 14 to 18 (src/include/utils/snapshot.h); `reader` compares what it reads with
what pg_current_snapshot() says, and gives None where they differ: nothing is kept then from one call to the next.
"""

from __future__ import annotations

import sys

from ubp_sql.api.session import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Moment = tuple[bytes, int, int]

FIRST_MAJOR, LAST_MAJOR = 14, 18
# Of SnapshotData: kind, xmin, xmax, transactions in progress (their array, number), subtransactions (array, number),
# whether they are too many, whether the server is a standby, whether copied, command id.
BYTES = 52
XMIN, XMAX, COUNT, COMMAND = (slice(start, start + 4) for start in (4, 8, 24, 48))
LISTED = slice(16, 24)
SAYS = """
select current_setting('server_version_num')::integer / 10000 as major, s::text as snapshot,
       pg_is_in_recovery() as standby, current_setting('max_prepared_transactions') <> '0' as prepares
  from pg_current_snapshot() s"""


class Reader:
    """Reads what tells one view of the database from another.

    moment()  (of the snapshot, own transaction and subtransaction, when the client's statement began): all equal for
              two calls of one statement that see the same rows, the first two for any two calls of a session that do;
              None where no snapshot is in force
    prepares  whether there may be two-phase commits: PREPARE TRANSACTION has its transaction in the array twice, for as
              long as it waits for a synchronous standby, so that their number does not tell which they are
    """

    def __init__(self, *, prepares: bool = False) -> None:
        import ctypes

        server = ctypes.PyDLL(None)  # the functions of the process itself; PyDLL: too short to let go of Python
        in_force, snapshot = server.ActiveSnapshotSet, server.GetActiveSnapshot
        own, part = server.GetTopTransactionIdIfAny, server.GetCurrentSubTransactionId
        clock = server.GetCurrentStatementStartTimestamp
        in_force.argtypes = snapshot.argtypes = own.argtypes = part.argtypes = clock.argtypes = ()
        in_force.restype, snapshot.restype = ctypes.c_bool, ctypes.c_void_p
        own.restype = part.restype = ctypes.c_uint32
        clock.restype = ctypes.c_int64
        kind = ctypes.c_char * BYTES
        place, content = 0, kind()

        def moment() -> Moment | None:
            nonlocal place, content
            if not in_force():
                return None
            found = snapshot()
            if found != place:
                place, content = found, kind.from_address(found)
            return content.raw, own() << 32 | part(), clock()

        def listing() -> Moment | None:
            found = moment()
            if found is None:
                return None
            place, count = (int.from_bytes(found[0][field], "little") for field in (LISTED, COUNT))
            return found[0] + ctypes.string_at(place, 4 * count), *found[1:]

        self.moment: Callable[[], Moment | None] = listing if prepares else moment


def reader(plpy: Any, memory: dict[str, Any]) -> Reader | None:
    """The reader, if this server is one that it understands."""
    if sys.maxsize < 2**32 or sys.byteorder != "little":
        return None
    said = run(plpy, memory, SAYS, [], [])[0]
    if not FIRST_MAJOR <= said["major"] <= LAST_MAJOR:
        return None
    try:
        made = Reader(prepares=said["prepares"])
    except (AttributeError, OSError):  # a server that does not export them
        return None
    return made if _agrees(made.moment(), said["snapshot"], standby=said["standby"]) else None


def _agrees(moment: Moment | None, snapshot: str, *, standby: bool) -> bool:
    """Whether the bytes say what pg_current_snapshot() says in the same snapshot: xmin:xmax:transactions."""
    if moment is None:
        return False
    xmin, xmax, listed = snapshot.split(":")
    word = (1 << 32) - 1
    numbers = [int.from_bytes(moment[0][part], "little") for part in (slice(0, 4), XMIN, XMAX, COUNT)]
    count = 0 if standby or not listed else listed.count(",") + 1  # a standby lists them as subtransactions
    return numbers == [0, int(xmin) & word, int(xmax) & word, count]
