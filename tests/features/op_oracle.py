"""What the cells of a plain operation are, by the naive oracle; and operations for Hypothesis to draw."""

import math
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from tests import reference as ref
from tests.reference import DAY, Event
from ubp_sql.kernels.dispatch import ANCHOR_EPOCH_US, LIFETIME_US, Key, Op
from ubp_sql.kernels.plan_build import ANY, OpSpec, Where

KINDS = ("view", "buy", "back")
HOLIDAYS = (15_000, 15_273, 15_277)
ITEM, ORDER, VALUE = 0, 1, 0
Oracle = list[tuple[float, float]]
"""The cells of one window, each with the error that it may have."""
KEYS: dict[int, Callable[[Event], int | None]] = {
    ITEM: lambda e: e.item,
    ORDER: lambda e: e.order,
    Key.DAY: lambda e: e.local // DAY,
    Key.HOUR: ref.hour,
    Key.WEEKDAY: lambda e: ref.weekday(e.local),
    Key.MONTH: lambda e: ref.month(e.local),
    Key.HOLIDAY: lambda e: int(e.local // DAY in HOLIDAYS),
    Key.ALL: lambda e: 0,
}
Found = list[float | tuple[float, float] | None]
CELLS = {Op.SUM: 2, Op.EXTREMA: 2, Op.SEEN: 2, Op.GAPS: 5, Op.DECAY: 2, Op.KEYS: 3}
LINKED = (Op.DISTINCT, Op.GAPS, Op.KEYS, Op.TOPK)
PLAIN = (*(code for code in Op if code <= Op.TOPK and code not in LINKED), Op.LAST_KEY)
ONE_WINDOW = (Op.LAST, Op.DECAY, Op.LAST_KEY)
WIDTHS = (LIFETIME_US, 30 * DAY, 5 * DAY, 2 * DAY, DAY, 1)


def windows(spec: OpSpec) -> Sequence[int]:
    """Windows to ask for: several widths, every bucket, or the one of the newest events."""
    if spec.last_n:
        return (0,)
    if spec.buckets:
        return range(spec.buckets)
    return WIDTHS[:1] if spec.code in ONE_WINDOW else WIDTHS


def n_cells(spec: OpSpec) -> int:
    """Cells of one window."""
    if spec.code in (Op.LAST, Op.HIST):
        return spec.size
    return 2 * spec.size if spec.code == Op.TOPK else CELLS.get(spec.code, 1)


@st.composite
def specs(draw: st.DrawFn, codes: Sequence[Op] = (*PLAIN, *LINKED)) -> OpSpec:
    """Any of the operations over any kinds, with or without a condition, over any form of window."""
    code = draw(st.sampled_from(codes))
    where = draw(
        st.sampled_from(
            [ANY, ANY, Where(VALUE, 0.0, 50.0), Where(key=ITEM, equals=1), Where(VALUE, -1e300, 20.0, ITEM)]
        )
    )
    form = draw(st.sampled_from(["", "", "last", "" if code in ONE_WINDOW else "buckets"]))
    keys = [Key.NONE, ITEM, ITEM, ORDER] if code == Op.GAPS else [ITEM, ITEM, ITEM, *KEYS]
    return OpSpec(
        code,
        draw(st.sampled_from([(0,), (1,), (0, 1), (2, 0)])),
        number=draw(st.sampled_from([-1, VALUE])) if code == Op.DECAY else VALUE,
        key=draw(st.sampled_from(keys)),
        where=where,
        size=draw(st.integers(1, 8)),
        p0=draw(st.sampled_from([0.5, 7.0, 365.0])) * DAY,
        last_n=draw(st.integers(1, 6)) if form == "last" else 0,
        buckets=draw(st.integers(1, 4)) if form == "buckets" else 0,
        bucket_us=draw(st.sampled_from([DAY, 7 * DAY])) if form == "buckets" else 0,
    )


def passes(spec: OpSpec, e: Event) -> bool:
    where = spec.where
    if e.kind not in [KINDS[kind] for kind in spec.kinds]:
        return False
    if where.number >= 0 and (e.value is None or not where.low <= e.value < where.high):
        return False
    return where.key == Key.NONE or KEYS[where.key](e) == where.equals


def cells(spec: OpSpec, known: list[Event], as_of: int, window: int) -> Oracle:
    """The oracle's cells of one window of the operation."""
    stream = [e for e in known if passes(spec, e)]
    if spec.last_n:
        mine = stream[-spec.last_n :]
    elif spec.buckets:
        mine = ref.in_bucket(stream, as_of, spec.bucket_us, window)
    else:
        mine = [e for e in stream if window == LIFETIME_US or e.t >= as_of - window]
    found = _BY_CODE[spec.code](mine, spec)
    return [x if isinstance(x, tuple) else (math.nan if x is None else float(x), 0.0) for x in found]


def _time(t: int | None) -> float | None:
    return None if t is None else float(t - ANCHOR_EPOCH_US)


def _near(x: float | None, error: float = 0.0) -> tuple[float, float]:
    """Within 1e-12 of itself, and `error`."""
    return (math.nan, 0.0) if x is None else (x, 1e-12 * abs(x) + error)


def _sum(mine: list[Event], spec: OpSpec) -> Found:
    return [len(ref.values(mine)), _near(ref.sum_value(mine), 1e-13 * sum(map(abs, ref.values(mine))))]


def _spread(mine: list[Event], spec: OpSpec) -> Found:
    values = ref.values(mine)
    if len(values) > 1 and max(map(abs, values)) > 1e150:
        return [(0.0, math.inf)]  # squares overflow: any value or none
    scale = max(map(abs, values), default=0.0)
    return [_near(ref.spread(mine), 1e-7 * scale)]


def _seen(mine: list[Event], spec: OpSpec) -> Found:
    return [_time(mine[-1].t if mine else None), _time(mine[0].t if mine else None)]


def _last(mine: list[Event], spec: OpSpec) -> Found:
    found: Found = [*ref.newest_values(mine, spec.size)]
    return found + [None] * (spec.size - len(found))


def _gaps(mine: list[Event], spec: OpSpec) -> Found:
    times = ref.starts(mine, KEYS.get(spec.key))
    gaps = ref.differences(times)
    mean = sum(gaps) / len(gaps) if gaps else None
    deviation = ref.deviation_days(gaps)
    error = 1e-7 * max(gaps, default=0) / DAY
    newest = gaps[-1] if gaps else None
    return [len(gaps), _near(mean), _near(deviation, error), newest, _time(times[-1] if times else None)]


def _decay(mine: list[Event], spec: OpSpec) -> Found:
    pairs = [(e.t, 1.0 if spec.number < 0 else e.value) for e in mine]
    weights = [(t, x) for t, x in pairs if x is not None]
    if any(abs(x) > 1e305 for _, x in weights):
        return [(0.0, math.inf), _time(weights[-1][0])]
    total = ref.decayed(weights, spec.p0)
    return [_near(total, 1e-13 * sum(abs(x) for _, x in weights)), _time(weights[-1][0] if weights else None)]


def _keys(mine: list[Event], spec: OpSpec) -> Found:
    counts = list(ref.by_key(mine, KEYS[spec.key]).values())
    telescoped = math.fsum(m * math.log(m) for m in counts)
    return [sum(counts), _near(telescoped, 1e-11), max(counts, default=0)]


def _topk(mine: list[Event], spec: OpSpec) -> Found:
    top = ref.most_frequent(mine, KEYS[spec.key], spec.size)
    found: Found = [x for key, n in top for x in (n, ref.code_of(key))]
    return found + [None] * (2 * (spec.size - len(top)))


_BY_CODE: dict[Op, Callable[[list[Event], OpSpec], Found]] = {
    Op.COUNT: lambda mine, spec: [len(mine)],
    Op.SUM: _sum,
    Op.EXTREMA: lambda mine, spec: [*ref.extrema(mine)],
    Op.SPREAD: _spread,
    Op.DISTINCT: lambda mine, spec: [ref.distinct(mine, KEYS[spec.key])],
    Op.SEEN: _seen,
    Op.FIRST: lambda mine, spec: [next(iter(ref.values(mine)), None)],
    Op.LAST: _last,
    Op.GAPS: _gaps,
    Op.DECAY: _decay,
    Op.HIST: lambda mine, spec: [*ref.bins(mine, KEYS[spec.key], spec.size)],
    Op.KEYS: _keys,
    Op.TOPK: _topk,
    Op.LAST_KEY: lambda mine, spec: [ref.newest_key(mine, KEYS[spec.key])],
}
