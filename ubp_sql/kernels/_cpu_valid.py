"""Until when a row stays right: the last moment up to which no event enters or leaves a window of the plan."""

from ubp_sql.kernels._cpu_jit import jit
from ubp_sql.kernels._cpu_streams import KINDS, REACH, edge_of, first_event, passes
from ubp_sql.kernels.dispatch import I64, LIFETIME_US, EventColumns, Pairs, Plan

PAIR, STREAM, POS, EDGE, BEST = range(5)  # entries of the cursor; POS -1 before a stream
CURSOR = 5


@jit
def valid_until(
    plan: Plan,
    widths_us: I64,
    first_width: I64,
    events: EventColumns,
    pairs: Pairs,
    cursor: I64,
    budget: int,
    until_us: I64,
) -> bool:
    """For about `budget` events' worth of further pairs: the last moment at which the same events are in each window.

    An event at t leaves a window after t + width. One that is not yet before the moment, or not yet known, enters after
    max(t, ingested - 1), unless every finite window of its stream is past it by then. known_at moves with as_of.

    widths_us    (e,) int64     finite widths of each stream's windows, descending, stream after stream
    first_width  (s+1,) int64   stream q owns widths first_width[q]:first_width[q+1]
    cursor       (CURSOR,)      zeros but for POS -1 at the start; moved
    until_us     (p,) int64     LIFETIME_US where nothing ever changes without a new event
    returns      true when every pair is done
    """
    t_us, ingested, kind = events.t_us, events.ingested_us, events.kind
    streams = plan.streams.shape[0]
    while cursor[PAIR] < pairs.user.shape[0]:
        p, q = cursor[PAIR], cursor[STREAM]
        as_of, known_at, user = pairs.as_of_us[p], pairs.known_at_us[p], pairs.user[p]
        high = events.first[user + 1]
        if q == 0 and cursor[POS] < 0:
            cursor[BEST] = LIFETIME_US
        while q < streams:
            if budget <= 0:
                cursor[STREAM] = q
                return False
            pos, edge, best = cursor[POS], cursor[EDGE], cursor[BEST]
            kinds, reach = plan.streams[q, KINDS] << 1, plan.streams[q, REACH]
            last = first_width[q + 1]
            if pos < 0:
                pos, edge = first_event(events, events.first[user], high, edge_of(as_of, reach)), first_width[q]
                budget -= 16
            end = min(high, pos + max(budget, 1))
            budget -= end - pos
            for i in range(pos, end):
                if (kinds >> (int(kind[i]) + 1)) & 1 == 0 or not passes(plan, events, q, i):
                    continue
                t, known = t_us[i], ingested[i]
                if t < as_of and known <= known_at:
                    while edge < last and t >= as_of - widths_us[edge]:
                        best = min(best, t + widths_us[edge])
                        edge += 1
                elif max(t + 1, known) - 1 < best and (reach == LIFETIME_US or known <= t + reach):
                    best = max(t + 1, known) - 1
            cursor[POS], cursor[EDGE], cursor[BEST] = end, edge, best
            if end < high:
                cursor[STREAM] = q
                return False
            q += 1
            cursor[POS] = -1
        until_us[p] = cursor[BEST]
        cursor[STREAM], cursor[POS] = 0, -1
        cursor[PAIR] = p + 1
        budget -= 4
    return True
