"""What a session keeps of a feature set to compute single users: its plan, and the library's buffers."""

from __future__ import annotations

from array import array
from collections import namedtuple

from ubp_sql.api.live_query import COLUMNS, PLACES, queries
from ubp_sql.api.session import Row, check_version, no_such_set, run, single
from ubp_sql.errors import BadInput, FeatureSetMismatch
from ubp_sql.kernels import native
from ubp_sql.kernels.live_layout import MISSING, NAN, TIME, ZERO
from ubp_sql.kernels.live_plan import LivePlan, open_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ubp_sql.api.standings import Standings

SEMANTICS = 2
"""As features.definition.SEMANTICS_VERSION, whose import costs a connection's first call 20 ms."""
KEPT_WORDS = 1 << 19
"""A larger buffer, that a long user needed, is given back after the call."""
NO_KEY = -(1 << 63)
NAN_BITS = 0x7FF8000000000000
COLUMNS_OF_SET = """
select s.feature_set_id, s.hash, s.plan, s.definition::jsonb ->> 'semantics' as semantics, d.positions, d.families
  from ubp.feature_sets s
  left join lateral (
    select array_agg(f.position order by f.position) as positions, array_agg(f.family order by f.position) as families
      from ubp.feature_definitions f
     where f.feature_set_id = s.feature_set_id and f.family in ('percentile', 'item_popularity')) d on true
 """
BY_NAME = COLUMNS_OF_SET + "where s.name = $1"
BY_ID = COLUMNS_OF_SET + "where s.feature_set_id = $1"
DECLARED = "select name, type, position from ubp.event_columns order by position"
CODES = "select code, kind from ubp.mirror_kinds where kind = any ($1)"

# Bit of a row's marks (heap.HEAD) that says it has the value; a column that is not here is sent for every row.
MARKS = {"ingested": 24, "item": 25, "order": 26, "value": 27, "quantity": 28, "duration_s": 29, "offset_s": 30}


class Column(namedtuple("Column", ("name", "extra", "missing", "place"))):
    """A number or key of the plan.

    extra    place among the declared columns; -1 for a column of every event
    missing  bits of what stands for no value; for `order` that is the event's time
    place    of its form's two words in Directory.forms
    """

    __slots__ = ()


class Native:
    """The library's calls for one plan, with their buffers."""

    def __init__(self, plan: LivePlan) -> None:
        import ctypes

        self._room, self._live = native.entry("ubp_live_room"), native.entry("ubp_live_row")
        self._blob = plan.blob
        self._begins = (ctypes.c_int64 * 64)()
        self._row, self._anchors = (ctypes.c_float * plan.features)(), (ctypes.c_double * (plan.anchors + 1))()
        self._at_begins, self._at_row = ctypes.addressof(self._begins), ctypes.addressof(self._row)
        self._at_anchors = ctypes.addressof(self._anchors)
        self._work, self._at_work, self._at_table = array("q"), 0, 0
        self._table = array("q")

    @property
    def usable(self) -> bool:
        """Whether the library is there."""
        return self._room is not None and self._live is not None

    def call(self, table: array[int], packed: bytes, budget: int) -> int:
        """The first call for a table; what live_layout.py says of it."""
        self._table = table  # its memory must not move while it is in use
        self._at_table = table.buffer_info()[0]
        words = self._room(self._blob, self._at_table, self._at_begins)  # type: ignore[misc]
        if words > len(self._work):
            self._work = array("q", bytes(8 * (words + words // 2)))
            self._at_work = self._work.buffer_info()[0]
        return self.again(packed, budget, 0)

    def again(self, packed: bytes, budget: int, started: int = 1) -> int:
        """A further call after AGAIN."""
        said: int = self._live(  # type: ignore[misc]
            *(self._blob, self._at_table, packed, len(packed), self._at_begins, self._at_work),
            *(self._at_row, self._at_anchors, started, budget),
        )
        return said

    @property
    def words(self) -> int:
        """Size of the buffer."""
        return len(self._work)

    @property
    def anchors(self) -> Any:
        """Those of the row."""
        return self._anchors

    def row(self) -> bytes:
        """The features, when a call said DONE; gives a long user's memory back."""
        if len(self._work) > KEPT_WORDS:
            self._work, self._at_work = array("q"), 0
        return bytes(self._row)


class LiveSet:
    """A feature set; with another hash, or other declared columns, it is another one."""

    def __init__(self, plpy: Any, memory: dict[Any, Any], row: Row) -> None:
        self.feature_set_id: int = row["feature_set_id"]
        self.hash: str = row["hash"]
        self.plan = _plan(plpy, memory, row)
        self.native = Native(self.plan)
        self.standings = _standings(row, self.plan)
        self.words: list[tuple[str, str, str]] | None = None
        """Name, unit and meaning of each feature, once somebody asked."""
        declared = run(plpy, memory, DECLARED, [], [])
        self.declared = [(found["name"], found["type"]) for found in declared]
        self.columns = list(self._columns())
        extras = any(column.extra >= 0 for column in self.columns)
        self.positions = [found["position"] for found in declared] if extras else None
        """Of all declared columns, as STATE has them; None where the set reads none."""
        names = ["t", "ingested", "kind", *(["offset_s"] if self.plan.local else [])]
        names += [column.name for column in self.columns if column.extra < 0]
        self.without_ids = queries(names, extras=extras)
        self.with_ids = queries([*names, "event_id"], extras=extras)
        self._version: int | None = None
        self._head: list[int] = []
        self._tail: list[int] = []

    def _columns(self) -> Any:
        names = [name for name, _ in self.declared]
        kinds = dict(self.declared)
        for name, is_number in (*((n, True) for n in self.plan.numbers), *((k, False) for k in self.plan.keys)):
            if name in COLUMNS:
                yield Column(name, -1, NAN_BITS if is_number else NO_KEY, 2 * PLACES[name])
            elif name not in names:
                raise FeatureSetMismatch(f"there is no event column {name!r}", "ubp.define_event_column declares it")
            else:
                missing = NAN_BITS if is_number else 0 if kinds[name] == "words" else NO_KEY
                yield Column(name, names.index(name), missing, 2 * (len(COLUMNS) + names.index(name)))

    def head(self, plpy: Any, memory: dict[Any, Any], version: int | None) -> tuple[list[int], list[int]]:
        """A table's beginning and its rows of columns.

        version  of the mirror, whose codes for kinds may be new; None: no chunk is read
        """
        if not self._head or (version is not None and version != self._version):
            found = run(plpy, memory, CODES, ["text[]"], [list(self.plan.kinds)])
            codes = [-1] * (1 + max((row["code"] for row in found), default=-1))
            for row in found:
                codes[row["code"]] = self.plan.kinds.index(row["kind"])
            rows = [-1, ZERO, MARKS["ingested"], TIME, -1, ZERO, -1, ZERO, MARKS["offset_s"], ZERO]
            for column in self.columns:
                default = TIME if column.name == "order" else NAN if column.missing == NAN_BITS else MISSING
                rows += [MARKS.get(column.name, -1), default]
            self._version = version
            self._head = [0, len(self.plan.numbers), len(self.plan.keys), len(codes), 0, 0, 0, 0]
            self._tail = codes + rows
        return self._head, self._tail


def live_set(plpy: Any, memory: dict[Any, Any], key: str | int) -> LiveSet:
    """The set of that name or number as the session keeps it; its hash may have changed since.

    Raises NotReady (UB005) when there is none.
    """
    return memory.get(("live", key)) or load_set(plpy, memory, key)


def load_set(plpy: Any, memory: dict[Any, Any], key: str | int) -> LiveSet:
    """The set of that name or number, read."""
    check_version(plpy, memory)
    if isinstance(key, str):
        row = single(plpy, memory, BY_NAME, ["text"], [key])
    else:
        row = single(plpy, memory, BY_ID, ["integer"], [key])
    if row is None:
        raise no_such_set(plpy, memory, key)
    made = memory["live", key] = LiveSet(plpy, memory, row)
    return made


def _standings(row: Row, plan: LivePlan) -> Standings | None:
    """What of the set speaks of the whole population."""
    if row["positions"] is None:
        return None
    from ubp_sql.api.standings import of_plan

    return of_plan(row["feature_set_id"], row["hash"], plan.blob, row["positions"], row["families"])


def _plan(plpy: Any, memory: dict[Any, Any], row: Row) -> LivePlan:
    """The stored plan; where there is none that this code can read, one made of the definition."""
    if row["plan"] is not None and row["semantics"] == str(SEMANTICS):
        try:
            return open_plan(row["plan"])
        except BadInput:
            pass
    from ubp_sql.api.moments import feature_set

    return open_plan(feature_set(plpy, memory, row["feature_set_id"]).definition.plan_blob)
