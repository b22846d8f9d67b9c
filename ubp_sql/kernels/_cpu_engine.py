"""The op machine on the CPU: every operation of a plan for one (user, moment) pair after the other.

A user's events are read into streams and links once (_cpu_streams.py). A pair is then a slice of each stream, cut into
rings by binary search, and each operation runs over its rings in a loop of its own, newest event to oldest: nothing
but the operation's own work is done per event, counts and times of first and last events need no loop at all, and an
operation stops where its longest window ends. Figures in docs/adr/0008-op-machine.md.

Nothing here allocates and all state lies in arrays of the caller: every call stops after a budget of events and goes on
at the same place, so a chunk's length cannot change a bit of the result and even one user's scan can be cancelled.
"""

from ubp_sql.kernels import _cpu_behaviour as behaviour
from ubp_sql.kernels import _cpu_keys as keys
from ubp_sql.kernels import _cpu_ops as ops
from ubp_sql.kernels._cpu_formulas import feature
from ubp_sql.kernels._cpu_jit import jit, op
from ubp_sql.kernels._cpu_streams import (
    EDGE,
    LAST_N,
    SPAN_BOUND,
    SPAN_RINGS,
    SPAN_STREAM,
    edge_of,
    fill_link,
    fill_stream,
    filter_stream,
    first_event,
    last_part,
    next_entry,
)
from ubp_sql.kernels.dispatch import F32, F64, At, EventColumns, Op, OpColumn, Pairs, Plan, Scan

PAIR, STAGE, ITEM, RING, POS, USER = (
    int(At.PAIR),
    int(At.STAGE),
    int(At.ITEM),
    int(At.RING),
    int(At.POS),
    int(At.USER),
)
LO, HI, AS_OF, KNOWN_AT, BANK, LINK_BANK, HIGH_US, FORWARD = (
    int(At.LO),
    int(At.HI),
    int(At.AS_OF),
    int(At.KNOWN_AT),
    int(At.BANK),
    int(At.LINK_BANK),
    int(At.HIGH_US),
    int(At.FORWARD),
)
NEXT, FILL, LINK, TOPS, FILTER, BOUNDS, RUN = range(7)  # stages
CODE, RINGS, BOUND, ACC, N_ACC, TIM, N_TIM, SCANS = (
    int(OpColumn.CODE),
    int(OpColumn.RINGS),
    int(OpColumn.BOUND),
    int(OpColumn.ACC),
    int(OpColumn.N_ACC),
    int(OpColumn.TIM),
    int(OpColumn.N_TIM),
    int(OpColumn.SCANS),
)
LEAST_BUDGET = 8
PAIR_COST = 32  # fixed work of a pair in events' worth, to which an operation adds 8 and a cell a quarter

COUNT, SUM, EXTREMA, SPREAD, DISTINCT, SEEN = (
    int(Op.COUNT),
    int(Op.SUM),
    int(Op.EXTREMA),
    int(Op.SPREAD),
    int(Op.DISTINCT),
    int(Op.SEEN),
)
FIRST, LAST, GAPS, DECAY, HIST, KEYS, TOPK = (
    int(Op.FIRST),
    int(Op.LAST),
    int(Op.GAPS),
    int(Op.DECAY),
    int(Op.HIST),
    int(Op.KEYS),
    int(Op.TOPK),
)
WORDS, FUNNEL, SESSIONS, LAST_SESSION, DWELL, LAST_KEY = (
    int(Op.WORDS),
    int(Op.FUNNEL),
    int(Op.SESSIONS),
    int(Op.LAST_SESSION),
    int(Op.DWELL),
    int(Op.LAST_KEY),
)


@op
def begin_pair(events: EventColumns, pairs: Pairs, s: Scan) -> int:
    """Turn to the next pair; the stage that it begins with."""
    at = s.at
    p = at[PAIR]
    user, as_of = pairs.user[p], pairs.as_of_us[p]
    forward = user == at[USER] and as_of >= at[AS_OF]
    at[AS_OF], at[KNOWN_AT], at[BANK], at[LINK_BANK] = as_of, pairs.known_at_us[p], 0, 0
    at[ITEM], at[POS], at[FORWARD] = 0, -1, forward
    if not forward:
        for q in range(s.tops.shape[0]):
            s.tops[q] = 0
    if user == at[USER]:
        return TOPS
    at[USER], at[LO] = user, events.first[user]
    at[HI] = first_event(events, at[LO], events.first[user + 1], at[HIGH_US])
    return FILL


@op
def find_tops(events: EventColumns, s: Scan) -> bool:
    """Find the newest entry before the moment of each stream; true if all entries up to there are known.

    Where only the newest are unknown, as after a nightly load, the top moves down to what is known.
    """
    at, whole = s.at, True
    lo, known_at = at[LO], at[KNOWN_AT]
    for q in range(s.tops.shape[0]):
        top = next_entry(events, s, q, s.tops[q], s.filled[q, 0], at[AS_OF])
        if top > 0 and s.latest[q, top - 1] > known_at:
            low, high = 0, top - 1
            while low < high:
                middle = (low + high) >> 1
                if s.latest[q, middle] <= known_at:
                    low = middle + 1
                else:
                    high = middle
            j = low
            while j < top and events.ingested_us[lo + s.stream[q, j]] > known_at:
                j += 1
            if j < top:
                whole = False
            else:
                top = low
        s.tops[q] = top
    return whole


@op
def find_bounds(plan: Plan, events: EventColumns, s: Scan) -> None:
    """Cut each span's stream into rings."""
    spans, bounds, at = plan.spans, s.bounds, s.at
    for i in range(spans.shape[0]):
        q, first, edge = spans[i, SPAN_STREAM], spans[i, SPAN_BOUND], spans[i, EDGE]
        bound = s.tops[q]
        bounds[first] = bound
        if spans[i, LAST_N] > 0:
            bounds[first + 1] = max(0, bound - spans[i, LAST_N])
        else:
            for v in range(spans[i, SPAN_RINGS]):
                t_us = edge_of(at[AS_OF], plan.edges_us[edge + v])
                if at[FORWARD]:
                    bound = next_entry(events, s, at[BANK] + q, min(bounds[first + v + 1], bound), bound, t_us)
                else:
                    bound = last_part(events, s, at[BANK] + q, bound, t_us)
                bounds[first + v + 1] = bound


@op
def take(plan: Plan, events: EventColumns, s: Scan, o: int, v: int, top: int, bottom: int) -> None:
    """Operation o over the entries top-1 .. bottom of its ring v."""
    code = plan.ops[o, CODE]
    if code == SUM:
        ops.sum_ring(plan, events, s, o, v, top, bottom)
    elif code == EXTREMA:
        ops.extrema_ring(plan, events, s, o, v, top, bottom)
    elif code == SPREAD:
        ops.spread_ring(plan, events, s, o, v, top, bottom)
    elif code == DISTINCT:
        keys.distinct_ring(plan, events, s, o, v, top, bottom)
    elif code == FIRST:
        ops.first_ring(plan, events, s, o, v, top, bottom)
    elif code == LAST:
        ops.last_ring(plan, events, s, o, v, top, bottom)
    elif code == GAPS:
        ops.gaps_ring(plan, events, s, o, v, top, bottom)
    elif code == DECAY:
        ops.decay_ring(plan, events, s, o, v, top, bottom)
    elif code == HIST:
        keys.hist_ring(plan, events, s, o, v, top, bottom)
    elif code == KEYS:
        keys.keys_ring(plan, events, s, o, v, top, bottom)
    elif code == TOPK:
        keys.topk_ring(plan, events, s, o, v, top, bottom)
    elif code == WORDS:
        behaviour.words_ring(plan, events, s, o, v, top, bottom)
    elif code == FUNNEL:
        behaviour.funnel_ring(plan, events, s, o, v, top, bottom)
    elif code == SESSIONS:
        behaviour.sessions_ring(plan, events, s, o, v, top, bottom)
    elif code == LAST_SESSION:
        behaviour.last_session_ring(plan, events, s, o, v, top, bottom)
    elif code == DWELL:
        behaviour.dwell_ring(plan, events, s, o, v, top, bottom)
    elif code == LAST_KEY:
        keys.last_key_ring(plan, events, s, o, v, top, bottom)


@op
def close(plan: Plan, events: EventColumns, s: Scan, o: int) -> None:
    """Operation o's state into its cells."""
    code = plan.ops[o, CODE]
    if code == COUNT:
        ops.count_done(plan, events, s, o)
    elif code == SUM:
        ops.sum_done(plan, events, s, o)
    elif code == EXTREMA:
        ops.extrema_done(plan, events, s, o)
    elif code == SPREAD:
        ops.spread_done(plan, events, s, o)
    elif code == DISTINCT:
        keys.distinct_done(plan, events, s, o)
    elif code == SEEN:
        ops.seen_done(plan, events, s, o)
    elif code == FIRST:
        ops.first_done(plan, events, s, o)
    elif code == LAST:
        ops.last_done(plan, events, s, o)
    elif code == GAPS:
        ops.gaps_done(plan, events, s, o)
    elif code == DECAY:
        ops.decay_done(plan, events, s, o)
    elif code == HIST:
        keys.hist_done(plan, events, s, o)
    elif code == KEYS:
        keys.keys_done(plan, events, s, o)
    elif code == TOPK:
        keys.topk_done(plan, events, s, o)
    elif code == WORDS:
        behaviour.words_done(plan, events, s, o)
    elif code == FUNNEL:
        behaviour.funnel_done(plan, events, s, o)
    elif code == SESSIONS:
        behaviour.sessions_done(plan, events, s, o)
    elif code == LAST_SESSION:
        behaviour.last_session_done(plan, events, s, o)
    elif code == DWELL:
        behaviour.dwell_done(plan, events, s, o)
    elif code == LAST_KEY:
        keys.last_key_done(plan, events, s, o)


@op
def run_ops(plan: Plan, events: EventColumns, s: Scan, budget: int) -> int:
    """Go on with the pair's operations until at[ITEM] is past the last or the budget is spent; what is left of it."""
    at, rows, bounds = s.at, plan.ops, s.bounds
    o = at[ITEM]
    while o < rows.shape[0]:
        if at[RING] < 0:
            for k in range(rows[o, ACC], rows[o, ACC] + rows[o, N_ACC]):
                s.acc[k] = 0.0
            for k in range(rows[o, TIM], rows[o, TIM] + rows[o, N_TIM]):
                s.tim[k] = 0
            at[RING], at[POS] = 0, bounds[rows[o, BOUND]]
        if rows[o, SCANS]:
            v, top = at[RING], at[POS]
            while v < rows[o, RINGS]:
                bottom = bounds[rows[o, BOUND] + v + 1]
                if top > bottom:
                    cut = max(bottom, top - max(budget, 1))
                    take(plan, events, s, o, v, top, cut)
                    budget -= top - cut
                    top = cut
                    if budget <= 0 and top > bottom:
                        at[ITEM], at[RING], at[POS] = o, v, top
                        return budget
                v += 1
        close(plan, events, s, o)
        at[RING] = -1
        o += 1
    at[ITEM] = o
    return budget


@jit
def run_pairs(plan: Plan, events: EventColumns, pairs: Pairs, scan: Scan, budget: int, out: F32, anchors: F64) -> bool:
    """Compute about `budget` events' worth of further pairs, going on where the last call stopped.

    out      (p, f) float32   one row per pair, NaN where a feature has no value
    anchors  (p, a) float64   the cells that ageing features are made of
    returns  true when every pair is done
    """
    at, s = scan.at, scan
    streams, links = plan.streams.shape[0], plan.links.shape[0]
    cost = PAIR_COST + 8 * plan.ops.shape[0] + (plan.formulas.shape[0] + s.cells.shape[0]) // 4
    while True:
        if at[STAGE] == NEXT:
            if at[PAIR] >= pairs.user.shape[0]:
                return True
            if budget <= 0:
                return False
            budget -= cost
            at[STAGE] = begin_pair(events, pairs, s)
        if at[STAGE] == FILL or at[STAGE] == FILTER:
            while at[ITEM] < streams:
                if at[STAGE] == FILL:
                    left = fill_stream(plan, events, s, at[ITEM], max(budget, LEAST_BUDGET))
                else:
                    left = filter_stream(plan, events, s, at[ITEM], max(budget, LEAST_BUDGET))
                if left <= 0:
                    return False
                budget = min(budget, left)
                at[ITEM] += 1
                at[POS] = -1
            at[ITEM], at[STAGE] = 0, LINK
        if at[STAGE] == LINK:
            while at[ITEM] < links:
                left = fill_link(plan, events, s, at[ITEM], max(budget, LEAST_BUDGET))
                if left <= 0:
                    return False
                budget = min(budget, left)
                at[ITEM] += 1
                at[POS] = -1
            at[STAGE] = TOPS
            if at[BANK] > 0:
                for q in range(streams):
                    s.tops[q] = s.filled[streams + q, 0]
                at[STAGE] = BOUNDS
        if at[STAGE] == TOPS:
            at[STAGE] = BOUNDS
            if not find_tops(events, s):
                at[BANK], at[LINK_BANK], at[ITEM], at[POS], at[STAGE] = streams, links, 0, -1, FILTER
                at[FORWARD] = 0
                continue
        if at[STAGE] == BOUNDS:
            find_bounds(plan, events, s)
            at[ITEM], at[RING], at[STAGE] = 0, -1, RUN
        if at[STAGE] == RUN:
            budget = run_ops(plan, events, s, budget)
            if at[ITEM] < plan.ops.shape[0]:
                return False
            p = at[PAIR]
            for f in range(plan.formulas.shape[0]):
                out[p, f] = feature(plan, f, s.cells, at[AS_OF], pairs.weekday[p])
            for k in range(plan.anchors.shape[0]):
                anchors[p, k] = s.cells[plan.anchors[k]]
            at[PAIR] += 1
            at[STAGE] = NEXT
