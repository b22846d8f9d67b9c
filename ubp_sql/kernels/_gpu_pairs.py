"""Kernels of the GPU for (user, moment) pairs: a thread takes all pairs of a user, with the CPU's own functions.

Scratch has the thread as its last dimension: neighbours in a warp then read neighbours in memory as long as they go the
same way.
"""

from numba import cuda, int64

from ubp_sql.kernels import _cpu_engine, _cpu_formulas, _cpu_valid
from ubp_sql.kernels._gpu_source import on_device
from ubp_sql.kernels.dispatch import F32, F64, I64, EventColumns, Pairs, Plan, Scan

ALL = 1 << 60
"""A budget that is never spent: a launch is what can be interrupted."""
CURSOR = _cpu_valid.CURSOR

_run_pairs = on_device(_cpu_engine.run_pairs)
_valid_until = on_device(_cpu_valid.valid_until)
_age_rows = on_device(_cpu_formulas.age_rows)


@cuda.jit
def run_users(
    plan: Plan, events: EventColumns, pairs: Pairs, scan: Scan, first: I64, chosen: I64, out: F32, anchors: F64
) -> None:
    """Every pair of the users chosen[thread], the pairs first[user]:first[user+1].

    scan  as new_scan makes it, each array with one more dimension: the thread
    """
    t = cuda.grid(1)
    if t < chosen.size:
        a, b = first[chosen[t]], first[chosen[t] + 1]
        mine = Pairs(pairs.user[a:b], pairs.as_of_us[a:b], pairs.known_at_us[a:b], pairs.weekday[a:b])
        own = Scan(
            scan.at[:, t],
            scan.stream[:, :, t],
            scan.filled[:, :, t],
            scan.latest[:, :, t],
            scan.after[:, :, t],
            scan.before[:, :, t],
            scan.table[:, t],
            scan.tops[:, t],
            scan.bounds[:, t],
            scan.acc[:, t],
            scan.tim[:, t],
            scan.marks[:, :, t],
            scan.cells[:, t],
        )
        _run_pairs(plan, events, mine, own, ALL, out[a:b], anchors[a:b])


@cuda.jit
def until_of_pairs(
    plan: Plan, widths_us: I64, first_width: I64, events: EventColumns, pairs: Pairs, until_us: I64
) -> None:
    """`valid_until`, a pair a thread."""
    p = cuda.grid(1)
    if p < until_us.size:
        mine = Pairs(
            pairs.user[p : p + 1], pairs.as_of_us[p : p + 1], pairs.known_at_us[p : p + 1], pairs.weekday[p : p + 1]
        )
        cursor = cuda.local.array(CURSOR, int64)
        for i in range(CURSOR):
            cursor[i] = 0
        cursor[_cpu_valid.POS] = -1
        _valid_until(plan, widths_us, first_width, events, mine, cursor, ALL, until_us[p : p + 1])


@cuda.jit
def aged_rows(plan: Plan, as_of_us: I64, weekday: I64, cells: F64, anchors: F64, out: F32) -> None:
    """`age_rows`, a row a thread; cells (CELLS, rows) is scratch."""
    p = cuda.grid(1)
    if p < out.shape[0]:
        cursor = cuda.local.array(1, int64)
        cursor[0] = 0
        q = p + 1
        _age_rows(plan, as_of_us[p:q], weekday[p:q], cells[:, p], anchors[p:q], cursor, ALL, out[p:q])
