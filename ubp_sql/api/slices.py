"""Where a user's events lie in the mirror: which chunks, from which event on. Without NumPy, for one user at a time.

A session keeps what it learnt: ranges of users of each run for one version of the mirror, and chunks' directories,
which never change and whose numbers are never used again.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict, namedtuple

from ubp_sql.api.session import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# For each run the chunk that the user's events are in if the run has any: the last one that begins at or before the
# user. A user of more events than a chunk holds has all parts of a chunk number to himself.
# The limit is for the planner, which takes a table that was never analyzed for hundreds of rows: at such a cost the
# server would have LLVM compile the query, half a second of each session's first call.
FIND = """
select m.version, exists (select from ubp.user_members) as linked, r.place, c.first_user, c.last_user, c.chunk_ids,
       (select min(d.first_user) from ubp.mirror_chunks d where d.run_id = r.run_id and d.first_user > $1) as next_user
  from (select version from ubp.mirror_state limit 1) m
  left join ubp.mirror_runs r on true
  left join lateral (
    select c.first_user, c.last_user,
           array(select d.chunk_id from ubp.mirror_chunks d
                  where d.run_id = r.run_id and d.first_user = c.first_user order by d.part) as chunk_ids
      from ubp.mirror_chunks c where c.run_id = r.run_id and c.first_user <= $1
     order by c.first_user desc, c.part desc limit 1) c on true
 order by r.place desc"""
DIRECTORIES = """
select chunk_id, n, user_ids, firsts, complete, complete_users, kind_all, offset_all, forms
  from ubp.mirror_chunks where chunk_id = any ($1)"""
MOST_DIRECTORIES = 256
MOST_RANGES = 100_000
LOWEST, HIGHEST = -(2**63), 2**63


class Piece(namedtuple("Piece", ("chunk_id", "begin", "n"))):
    """Events begin..begin+n-1 of a chunk."""

    __slots__ = ()


class Directory:
    """A chunk's users, and what all its events have in common: kind and offset, 0 where they are columns, and forms.

    forms  two words a column (kernels/forms.py), those of every event in the order of live_query.COLUMNS
    """

    __slots__ = ("_complete", "_firsts", "_n", "_users", "forms", "kind_all", "offset_all")

    def __init__(self, row: dict[str, Any]) -> None:
        self._users, self._firsts = _little("q", row["user_ids"]), _little("i", row["firsts"])
        self._n: int = row["n"]
        self._complete: bool | bytes = row["complete_users"] if row["complete"] is None else row["complete"]
        self.kind_all: int = row["kind_all"] or 0
        self.offset_all: int = row["offset_all"] or 0
        self.forms = _little("q", row["forms"])

    def entry(self, user: int) -> tuple[int, int, bool] | None:
        """(first event, events, whether older runs are void) of the user, if the chunk has an entry of his."""
        i = bisect_left(self._users, user)
        if i == len(self._users) or self._users[i] != user:
            return None
        begin = self._firsts[i]
        end = self._firsts[i + 1] if i + 1 < len(self._firsts) else self._n
        return begin, end - begin, bool(self._complete if isinstance(self._complete, bool) else self._complete[i])


class _Ranges:
    """Of one run: which chunks the users from `low` up to, without, `high` are in."""

    def __init__(self) -> None:
        self.lows: list[int] = []
        self.highs: list[int] = []
        self.chunks: list[tuple[int, tuple[int, ...]]] = []

    def chunks_of(self, user: int) -> tuple[int, ...] | None:
        """The chunks, () for none, None for not known."""
        i = bisect_right(self.lows, user) - 1
        if i < 0 or user >= self.highs[i]:
            return None
        last, ids = self.chunks[i]
        return ids if user <= last else ()

    def learn(self, low: int, high: int, last: int, ids: tuple[int, ...]) -> None:
        i = bisect_left(self.lows, low)
        if i == len(self.lows) or self.lows[i] != low:
            self.lows.insert(i, low)
            self.highs.insert(i, high)
            self.chunks.insert(i, (last, ids))


class Places:
    """What a session knows of the mirror."""

    def __init__(self) -> None:
        self.version = -1
        self.linked = False
        """Whether some users are several ids. Who is linked, or no more, is in the log until the mirror has changed."""
        self.pending = False
        """Whether, at the last look, some of the event log could have been about the user."""
        self._runs: list[_Ranges] | None = None  # newest first
        self._known = 0
        self.directories: OrderedDict[int, Directory] = OrderedDict()

    def pieces(self, user: int) -> list[Piece] | None:
        """Where the user's events are, newest run first; None where that is not known."""
        if self._runs is None:
            return None
        found: list[Piece] = []
        for ranges in self._runs:
            ids = ranges.chunks_of(user)
            if ids is None:
                return None
            void = False
            for chunk_id in ids:
                directory = self.directories.get(chunk_id)
                if directory is None:
                    return None
                its = directory.entry(user)
                if its is not None:
                    void = its[2]
                    if its[1]:
                        found.append(Piece(chunk_id, its[0], its[1]))
            if void:
                break
        return found

    def learn(self, plpy: Any, memory: dict[str, Any], user: int) -> list[Piece] | None:
        """Looks up which chunks the user is in, and reads the directories of those not read before: `pieces` then."""
        found = run(plpy, memory, FIND, ["bigint"], [user])
        rows = [row for row in found if row["place"] is not None]
        if self._runs is None or found[0]["version"] != self.version or self._known > MOST_RANGES:
            # The mirror has changed: what was learnt of its runs is void. Directories are as good as ever.
            self.version, self._runs, self._known = found[0]["version"], [_Ranges() for _ in rows], 0
        self.linked = found[0]["linked"]
        wanted: list[int] = []
        for ranges, row in zip(self._runs, rows, strict=True):
            high = HIGHEST if row["next_user"] is None else row["next_user"]
            if row["first_user"] is None:
                ranges.learn(LOWEST, high, LOWEST, ())
            else:
                ids = tuple(row["chunk_ids"])
                ranges.learn(row["first_user"], high, row["last_user"], ids)
                if user <= row["last_user"]:
                    wanted += ids
            self._known += 1
        for chunk_id in wanted:
            if chunk_id in self.directories:
                self.directories.move_to_end(chunk_id)
        missing = [chunk_id for chunk_id in wanted if chunk_id not in self.directories]
        if missing:
            for row in run(plpy, memory, DIRECTORIES, ["bigint[]"], [missing]):
                self.directories[row["chunk_id"]] = Directory(row)
        while len(self.directories) > max(MOST_DIRECTORIES, len(wanted)):
            self.directories.popitem(last=False)
        return self.pieces(user)


def _little(code: str, data: bytes) -> array[int]:
    import sys

    values: array[int] = array(code, data)
    if sys.byteorder == "big":
        values.byteswap()
    return values
