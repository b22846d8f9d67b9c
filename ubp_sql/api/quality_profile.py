"""The log in figures small enough for memory: events by source, kind and hour, and values by magnitude and week.

Each is one pass over the events. What rules of CLEANED flagged is taken off again: a bot's events would otherwise be a
drift, and a date in 2099 a gap of decades.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ubp_sql.api.session import run, touch

if TYPE_CHECKING:
    from ubp_sql.api.quality_rules import Rule
    from ubp_sql.api.quality_users import Seen
    from ubp_sql.kernels.dispatch import I64

ROWS = "ubp.event_rows()"
"""All events, of whatever origin."""
# `kind` is NULL where there are too few events to say anything of it alone.
FIGURES = """
       count(*) as n, count(e.item_id) as items, count(nullif(e.value, 'NaN')) as "values",
       count(nullif(e.quantity, 'NaN')) as quantities, count(nullif(e.duration_s, 'NaN')) as durations,
       count(e.attributes) as attributes, count(e.attributes -> 'order_id') as orders,
       count(*) filter (where e.event_time > e.ingested_at or e.event_time > now()) as ahead"""
MOST_KINDS = 1_000
PACKED = f"""
select x.source, case when x.total >= 100 then x.kind end as kind,
       string_agg(int8send(x.hour) || int8send(x.n) || int8send(x.items) || int8send(x."values")
                  || int8send(x.quantities) || int8send(x.durations) || int8send(x.attributes) || int8send(x.orders)
                  || int8send(x.ahead), '') as figures,
       (array_agg(distinct x.kind))[1:{MOST_KINDS}] as kinds
  from (select h.*, floor(extract(epoch from h.at) / 3600)::bigint as hour,
               sum(h.n) over (partition by h.source, h.kind) as total
          from h) x
 group by 1, 2"""  # noqa: S608 - constants only
BY_HOUR = f"""
with h as materialized (
  select e.source, e.kind, date_bin(interval '1 hour', e.event_time, timestamptz 'epoch') as at, {FIGURES}
    from {ROWS} e group by 1, 2, 3)
{PACKED}"""  # noqa: S608 - constants only
# Clean: by rules that say of an event that it is none.
CLEANED = """
(select distinct f.event_id, f.event_time, f.user_id
   from ubp.flagged_events f join ubp.quality_findings q using (finding_id) join ubp.quality_rules r using (rule)
  where r.check_name in ('swapped_dates', 'impossible_times', 'duplicates', 'rate'))"""
FLAGGED = f"{CLEANED} f join {ROWS} e using (event_id, event_time, user_id)"
FLAGGED_BY_HOUR = f"""
with h as materialized (
  select e.source, e.kind, date_bin(interval '1 hour', e.event_time, timestamptz 'epoch') as at, {FIGURES}
    from {FLAGGED} group by 1, 2, 3)
{PACKED}""".replace("x.total >= 100", "true")  # noqa: S608
NUMBER = """case $1 when 'value' then e.value when 'quantity' then e.quantity::double precision
                 else e.duration_s::double precision end as v"""
INFINITE = 1_000_000
"""The bin of values without end."""
BINNED = f"""
select x.source, x.kind, x.negative,
       string_agg(int8send(floor(extract(epoch from x.at) / 604800)::bigint) || int8send(x.bin) || int8send(x.n), '')
         as figures
  from (with h as materialized (
        select v.source, v.kind, v.v < 0 as negative,
               date_bin(interval '7 days', v.event_time, timestamptz '2001-01-01') as at,
               case when abs(v.v) = 'Infinity' then {INFINITE} else floor(ln(abs(v.v)) * 64)::bigint end as bin,
               count(*) as n
          from (select e.source, e.kind, e.event_time, {NUMBER} from {{rows}}) v
         where v.v <> 0 and v.v <> 'NaN' group by 1, 2, 3, 4, 5)
        select * from h) x
 group by 1, 2, 3"""  # noqa: S608
BY_VALUE = BINNED.format(rows=f"{ROWS} e")
FLAGGED_BY_VALUE = BINNED.format(rows=FLAGGED)
SORT = "select set_config('enable_sort', $1, true)"
COLUMNS = ("item", "value", "quantity", "duration_s", "attributes", "order_id")
AHEAD = 8


@dataclass
class Profile:
    """What the checks of one run share; each part is read when the first check asks for it."""

    plpy: Any
    memory: dict[str, Any]
    rules: "list[Rule]"
    seen: "Seen | None" = None
    _kinds: set[str] = field(default_factory=set)
    _raw: "dict[tuple[int, str | None], I64] | None" = None
    _clean: "dict[tuple[int, str | None], I64] | None" = None
    _values: "dict[str, dict[tuple[int, str, bool], I64]]" = field(default_factory=dict)

    def raw(self) -> "dict[tuple[int, str | None], I64]":
        """(source, kind) to (h, 9): hour since 1970, events, those with each of COLUMNS, those of the future."""
        if self._raw is None:
            self._raw = _figures(self.plpy, self.memory, BY_HOUR, self._kinds)
        return self._raw

    def clean(self) -> "dict[tuple[int, str | None], I64]":
        """As `raw`, without what was flagged when it was first asked for."""
        if self._clean is None:
            self._clean = dict(self.raw())
            for (source, kind), gone in _figures(self.plpy, self.memory, FLAGGED_BY_HOUR, set()).items():
                key = (source, kind) if (source, kind) in self._clean else (source, None)
                if key in self._clean:
                    self._clean[key] = _less(self._clean[key], gone)
        return self._clean

    def values(self, column: str) -> "dict[tuple[int, str, bool], I64]":
        """(source, kind, negative) to (b, 3): week since 2001, bin of the magnitude, events; without the flagged."""
        if column not in self._values:
            found = _histogram(self.plpy, self.memory, BY_VALUE, column)
            for key, gone in _histogram(self.plpy, self.memory, FLAGGED_BY_VALUE, column).items():
                if key in found:
                    found[key] = _less(found[key], gone, keys=2)
            self._values[column] = found
        return self._values[column]

    def kinds(self) -> list[str]:
        """Every kind; of those that are rare in a source, MOST_KINDS."""
        self.raw()
        return sorted(self._kinds)

    def sources(self) -> list[int]:
        return sorted({source for source, _ in self.raw()})

    def hours(self, source: int, *, clean: bool) -> "tuple[I64, I64]":
        """(hours with events, how many) of a source."""
        import numpy as np

        parts = [table for (its, _), table in (self.clean() if clean else self.raw()).items() if its == source]
        if not parts:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        every = np.concatenate(parts)
        every = every[every[:, 1] > 0]
        hours, place = np.unique(every[:, 0], return_inverse=True)
        counts = np.zeros(len(hours), np.int64)
        np.add.at(counts, place, every[:, 1])
        return hours, counts

    def has(self, column: str) -> bool:
        """Whether any event has a number there."""
        place = 2 + COLUMNS.index(column)
        return any(bool(table[:, place].any()) for table in self.raw().values())

    def ahead(self) -> bool:
        """Whether any event is said to have happened after its arrival, or after now."""
        return any(bool(table[:, AHEAD].any()) for table in self.raw().values())

    @property
    def events(self) -> int:
        return sum(int(table[:, 1].sum()) for table in self.raw().values())


def hashed(plpy: Any, memory: dict[str, Any], query: str, types: list[str], arguments: list[Any]) -> Any:
    """Rows of a query over all events that has few groups, of which the planner expects millions and would sort.

    Its materialized part is planned by itself, so that nobody asks it for an order. 5 million events: 2 s, not 13.
    """
    run(plpy, memory, SORT, ["text"], ["off"])
    rows = run(plpy, memory, query, types, arguments)
    run(plpy, memory, SORT, ["text"], ["on"])
    return rows


def _figures(plpy: Any, memory: dict[str, Any], query: str, kinds: set[str]) -> "dict[tuple[int, str | None], I64]":
    found = {}
    for row in hashed(plpy, memory, query, [], []):
        found[row["source"], row["kind"]] = _numbers(row["figures"], 9)
        kinds.update(row["kinds"])
    touch(plpy, memory)
    return found


def _histogram(plpy: Any, memory: dict[str, Any], query: str, column: str) -> "dict[tuple[int, str, bool], I64]":
    rows = hashed(plpy, memory, query, ["text"], [column])
    return {(row["source"], row["kind"], row["negative"]): _numbers(row["figures"], 3) for row in rows}


def _numbers(raw: bytes, width: int) -> "I64":
    import numpy as np

    return np.frombuffer(raw, ">i8").astype(np.int64).reshape(-1, width)


def _less(table: "I64", gone: "I64", keys: int = 1) -> "I64":
    """Rows of `table` without those of `gone`, by the first columns."""
    import numpy as np

    less = gone.copy()
    less[:, keys:] *= -1
    every = np.concatenate((table, less))
    rows, place = np.unique(every[:, :keys], axis=0, return_inverse=True)
    sums = np.zeros((len(rows), table.shape[1] - keys), np.int64)
    np.add.at(sums, place.reshape(-1), every[:, keys:])
    left = np.concatenate((rows, np.maximum(sums, 0)), axis=1)
    return left[left[:, -1 if keys > 1 else 1] > 0]
