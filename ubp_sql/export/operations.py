"""Every operation's cells in SQL; cells are numbered as kernels/codes.py says of `Op`."""

from collections.abc import Callable

from ubp_sql.export.columns import EVERYTHING
from ubp_sql.export.parts import DAY_SHARE, EPOCH_US, Columns, OpPart, Part, bits, interval, steps_of
from ubp_sql.export.quoting import float8
from ubp_sql.kernels.dispatch import Op

OLDEST_FIRST = "t, g, i"
FOLLOWING = f"over (partition by u order by {OLDEST_FIRST} rows between 1 following and unbounded following)"
FAR_EXPONENT = 960
"""Half-lives after which an event counts nothing: what is left of it is far below a float32 beside the newest one."""


class Ringed:
    """Aggregates by user and ring, newest event first: what is added in an order."""

    def __init__(self, op: OpPart) -> None:
        self.op = op
        name = f"s{op.span}"
        if name not in op.parts:
            rings = Columns("a")
            ordered = f"select * from ({op.spans.rows(op.span)}) e order by u, r, {EVERYTHING}"
            op.parts[name] = _RingPart(name, rings, ordered)
        part = op.parts[name]
        assert isinstance(part, _RingPart)  # noqa: S101 - no other part is called so
        self.part = part

    def ring(self, expression: str) -> str:
        """A value of each ring."""
        return self.part.rings.add(expression)

    def add(self, expression: str) -> str:
        return self.part.add(expression)

    def whole(self, expression: str, v: int) -> str:
        """The sum of whole numbers of the rings of window v."""
        return f"coalesce({self.add(f'sum({self.ring(expression)}) filter (where {self.op.inside(v)})')}, 0)"

    def summed(self, expression: str, v: int) -> str:
        """Float64 sums of rings, added ring by ring from 0.0."""
        ring = self.ring(expression)
        of = range(v + 1) if self.op.cumulative else [v]
        terms = "".join(f" + coalesce(sum({ring}) filter (where r = {w}), 0)" for w in of)
        return f"coalesce({self.add(f'0::float8{terms}')}, 0)"


class _RingPart(Part):
    def __init__(self, name: str, rings: Columns, ordered: str) -> None:
        self.rings = rings
        super().__init__(name, lambda: f"select u, r{rings.listed()} from ({ordered}) e group by u, r")


def cell(op: OpPart, v: int, j: int) -> str:
    """Cell j of window v; times are microseconds since 1970."""
    return _CELLS[op.code](op, v, j)


def _count(op: OpPart, v: int, j: int) -> str:
    return Ringed(op).whole("count(*)::integer", v)


def _sum(op: OpPart, v: int, j: int) -> str:
    if j == 0:
        return Ringed(op).whole(f"count({op.number})::integer", v)
    return Ringed(op).summed(f"sum({op.number})", v)


def _extrema(op: OpPart, v: int, j: int) -> str:
    ringed, name = Ringed(op), ("min", "max")[j]
    return ringed.add(f"{name}({ringed.ring(f'{name}({op.number})')}) filter (where {op.inside(v)})")


def _values(op: OpPart) -> str:
    """The ring's values, newest first."""
    return f"array_agg({op.number}) filter (where {op.number} is not null)"


def _spread(op: OpPart, v: int, j: int) -> str:
    ringed = Ringed(op)
    ring = ringed.ring(f"ubp.ring_spread({_values(op)})")
    return ringed.add(
        f"ubp.merged_spread(array_agg({ring} order by r) filter (where {ring} is not null and {op.inside(v)}))"
    )


def _seen(op: OpPart, v: int, j: int) -> str:
    ringed, name = Ringed(op), ("max", "min")[j]
    at = ringed.add(f"{name}({ringed.ring(f'{name}(t)')}) filter (where {op.inside(v)})")
    return EPOCH_US.format(at)


def _first(op: OpPart, v: int, j: int) -> str:
    ringed = Ringed(op)
    ring = ringed.ring(f"({_values(op)})[count({op.number})]")
    return ringed.add(f"(array_agg({ring} order by r desc) filter (where {ring} is not null and {op.inside(v)}))[1]")


def _last(op: OpPart, v: int, j: int) -> str:
    ringed = Ringed(op)
    return ringed.add(f"max({ringed.ring(f'({_values(op)})[{j + 1}]')})")


def _distinct(op: OpPart, v: int, j: int) -> str:
    """A key counts at its newest event; in buckets at one of each."""
    rows = f"({op.spans.rows(op.span)}) e where {op.key} is not null"
    of = f"select u, {op.key} as key, min(r) as r from {rows} group by u, {op.key}"
    inner = of if op.cumulative else f"{of}, r"
    found = op.part(f"d{op.o}", lambda: inner).add(f"count(*) filter (where {op.inside(v)})")
    return f"coalesce({found}, 0)"


def _gaps(op: OpPart, v: int, j: int) -> str:
    rows = f"({op.spans.rows(op.span)}) e where {op.inside(v)}"
    starts = f"select u, {EPOCH_US.format('t')} as t from {rows}"
    if op.key:  # the first event in the window of each key
        starts = f"select u, {EPOCH_US.format('min(t)')} as t from {rows} and {op.key} is not null group by u, {op.key}"
    if j in (2, 3):
        return _deviation(op, starts, v, j)
    part = op.part(f"g{op.o}_{v}", lambda: starts)
    if j == 0:
        return f"greatest({part.add('count(*)')} - 1, 0)"
    if j == 4:
        return part.add("max(t)")
    n = part.add("count(*)")
    return f"({part.add('max(t)')} - {part.add('min(t)')})::float8 / nullif({n} - 1, 0)"


def _deviation(op: OpPart, starts: str, v: int, j: int) -> str:
    """Gaps from the newest on: their deviations from the newest gap, in days."""
    placed = f"""select u, t, lag(t) over w - t as gap, row_number() over w as place
      from ({starts}) y window w as (partition by u order by t desc)"""
    led = f"select *, max(gap) filter (where place = 2) over (partition by u) as led from ({placed}) y"
    more = f"select u, led, (gap::float8 - led::float8) * {float8(DAY_SHARE)} as more from ({led}) y order by u, place"
    part = op.part(f"h{op.o}_{v}", lambda: more)
    if j == 3:
        return f"{part.add('max(led)')}::float8"
    n, total, squares = part.add("count(more)"), part.add("sum(more)"), part.add("sum(more * more)")
    return (
        f"case when {n} > 1 then sqrt(greatest({squares} - {total} * {total} / {n}::float8, 0) / ({n}::float8 - 1)) end"
    )


def _decay(op: OpPart, v: int, j: int) -> str:
    x = "1::float8" if op.number == "n-1" else op.number
    at = EPOCH_US.format("t")
    rows = f"select u, t, g, i, {at} as at, {x} as x from ({op.spans.rows(op.span)}) e where {x} is not null"
    aged = f"select *, (max(at) over (partition by u) - at)::float8 * {float8(1.0 / op.p0)} as y from ({rows}) e"
    inner = f"select * from ({aged}) e order by u, {EVERYTHING}"
    part = op.part(f"f{op.o}", lambda: inner)
    if j == 1:
        return part.add("max(at)")
    total = part.add(f"sum(x * ubp.half_to(y)) filter (where y < {FAR_EXPONENT})")
    return f"coalesce(0 + {total}, 0)"


def _keys(op: OpPart, v: int, j: int) -> str:
    ring = "" if op.cumulative else ", r"
    place = f"row_number() over (partition by u, {op.key}{ring} order by {EVERYTHING}) as m"
    placed = f"select u, r, t, g, i, {place} from ({op.spans.rows(op.span)}) e where {op.key} is not null"
    ordered = f"select * from ({placed}) e order by u, r, {EVERYTHING}"
    of = "case when {0} > 1 then ({0})::float8 * ln(({0})::float8) else 0 end"
    sums = f"sum({of.format('m')} - {of.format('m - 1')}) as total, count(*)::integer as n, max(m) as most"
    inner = f"select u, r, {sums} from ({ordered}) e group by u, r"
    part = op.part(f"k{op.o}", lambda: inner)
    if j == 1:
        of_rings = range(v + 1) if op.cumulative else [v]
        terms = "".join(f" + coalesce(sum(total) filter (where r = {w}), 0)" for w in of_rings)
        return f"coalesce({part.add(f'0::float8{terms}')}, 0)"
    what = "sum(n)" if j == 0 else "max(most)"
    return f"coalesce({part.add(f'{what} filter (where {op.inside(v)})')}, 0)"


def _top_keys(op: OpPart, v: int, j: int) -> str:
    """Of equally frequent keys the one that was seen later."""
    place = f"row_number() over (partition by u order by {OLDEST_FIRST}) as place"
    placed = f"select u, {op.key} as key, {place} from ({op.spans.rows(op.span)}) e where {op.inside(v)}"
    counted = (
        f"select u, key, count(*) as n, max(place) as newest from ({placed}) e where key is not null group by u, key"
    )
    rank = "row_number() over (partition by u order by n desc, newest desc) as rank"
    inner = f"select *, {rank} from ({counted}) e"
    what = "ubp.key_code(key)" if j % 2 else "n"
    return op.part(f"t{op.o}_{v}", lambda: inner).add(f"max({what}) filter (where rank = {j // 2 + 1})")


def _words(op: OpPart, v: int, j: int) -> str:
    mask = sum(1 << bit for bit in range(j, 64, op.size)) if j < 64 else 0
    signed = mask - (1 << 64) if mask >> 63 else mask
    inner = op.spans.rows(op.span)
    found = f"count(*) filter (where {op.inside(v)} and {op.key} & ('{signed}'::bigint) <> 0)"
    return f"coalesce({op.part(f'w{op.span}', lambda: inner).add(found)}, 0)"


def _sessions(op: OpPart, v: int, j: int) -> str:
    """Of each event of the window the time from the event before and to the one after."""
    within = f"select u, t, g, i from ({op.spans.rows(op.span)}) e where {op.inside(v)}"
    before = f"select u, {EPOCH_US.format('t')} as at, t - lag(t) over w as before, lead(t) over w - t as after"
    timed = f"{before} from ({within}) e window w as (partition by u order by {OLDEST_FIRST})"
    timeout = interval(int(op.p0))
    part = op.part(f"b{op.o}_{v}", lambda: timed)
    begins, ends = f"before is null or before > {timeout}", f"after is null or after > {timeout}"
    inside_us = EPOCH_US.format(f"sum(before) filter (where before <= {timeout})")
    what = ("count(*) filter (where {0})", "count(*)", "{2}", "count(*) filter (where ({0}) and ({1}))")[j]
    return f"coalesce({part.add(what.format(begins, ends, inside_us))}, 0)"


def _last_session(op: OpPart, v: int, j: int) -> str:
    window = "window w as (partition by u order by t, g, i)"
    rows = f"""select u, {EPOCH_US.format("t")} as at, t - lag(t) over w as before,
      row_number() over (partition by u order by {EVERYTHING}) as place from ({op.spans.rows(op.span)}) e {window}"""
    part = op.part(f"l{op.o}", lambda: rows)
    begins = f"filter (where before is null or before > {interval(int(op.p0))})"
    if j == 0:
        return f"({part.add('max(at)')} - {part.add(f'max(at) {begins}')})"
    return part.add("max(at)") if j == 1 else part.add(f"min(place) {begins}")


def _dwell(op: OpPart, v: int, j: int) -> str:
    until = f"min(t) filter (where k in ({', '.join(map(str, bits(op.steps)))})) {FOLLOWING} as next"
    # Later events are newer: the span has them all.
    rows = f"select *, {until} from ({op.spans.rows(op.span)}) e"
    own = f"select u, r, next - t as stay from ({rows}) e where k in ({', '.join(map(str, bits(op.kinds)))})"
    inner = f"{own} and next - t <= {interval(int(op.p0))}"
    part = op.part(f"y{op.o}", lambda: inner)
    if j == 0:
        return f"coalesce({part.add(f'count(*) filter (where {op.inside(v)})')}, 0)"
    total = EPOCH_US.format(f"sum(stay) filter (where {op.inside(v)})")
    return f"coalesce({part.add(total)}, 0)"


def _funnel(op: OpPart, v: int, j: int) -> str:
    """Chains of steps, each at the first later event of its kind, from the last step back to the start."""
    steps = steps_of(op.steps, op.size)
    rows = f"select u, t, g, i, k, r, t as end1 from ({op.spans.rows(op.span)}) e"
    for d in range(2, len(steps) + 1):
        rows = f"select *, case when k = {steps[d - 1]} then t end as chain from ({rows}) e"
        for step in reversed(range(d - 1)):
            later = f"case when k = {steps[step]} then min(chain) {FOLLOWING} end as chain"
            kept = "".join(f", end{n}" for n in range(1, d))
            rows = f"select u, t, g, i, k, r{kept}, {later} from ({rows}) e"
        kept = "".join(f", end{n}" for n in range(1, d))
        rows = f"select u, t, g, i, k, r{kept}, chain as end{d} from ({rows}) e"
    bound = interval(int(op.p0))
    # A later step reached in time means that those before it were.
    depth = " ".join(f"when end{d} - t <= {bound} then {d}" for d in range(len(steps), 1, -1))
    reached = f"case {depth} else 1 end" if depth else "1"
    inner = f"select u, r, {reached} as depth from ({rows}) e where k = {steps[0]}"
    what = f"max(depth) filter (where {op.inside(v)})"
    if j:
        what = f"count(*) filter (where {op.inside(v)} and depth >= {j})"
    return f"coalesce({op.part(f'z{op.o}', lambda: inner).add(what)}, 0)"


_CELLS: dict[Op, Callable[[OpPart, int, int], str]] = {
    Op.COUNT: _count,
    Op.SUM: _sum,
    Op.EXTREMA: _extrema,
    Op.SPREAD: _spread,
    Op.DISTINCT: _distinct,
    Op.SEEN: _seen,
    Op.FIRST: _first,
    Op.LAST: _last,
    Op.GAPS: _gaps,
    Op.DECAY: _decay,
    Op.KEYS: _keys,
    Op.TOPK: _top_keys,
    Op.WORDS: _words,
    Op.FUNNEL: _funnel,
    Op.SESSIONS: _sessions,
    Op.LAST_SESSION: _last_session,
    Op.DWELL: _dwell,
}
SUPPORTED = frozenset((*_CELLS, Op.HIST))
