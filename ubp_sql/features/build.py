"""How each aggregate is built: the cells it asks for and the formula it makes of them."""

from collections.abc import Callable

from ubp_sql.features.ask import Ask
from ubp_sql.features.columns import CLOCK_SIZE
from ubp_sql.kernels.codes import DAY_US, LIFETIME_US, Formula, Key, Op

SECOND_US = 1_000_000


def value(op: Op, j: int = 0, f1: float = 1.0) -> Callable[[Ask], None]:
    return lambda ask: ask.add(Formula.VALUE, ask.cell(op, j), f1=f1)


def quotient(op: Op, over: int, under: int, f1: float = 1.0) -> Callable[[Ask], None]:
    return lambda ask: ask.add(Formula.RATIO, ask.cell(op, over), ask.cell(op, under), f1=f1)


def age(op: Op, j: int) -> Callable[[Ask], None]:
    return lambda ask: ask.add(Formula.AGE, ask.cell(op, j), f1=float(DAY_US))


def overdue(ask: Ask) -> None:
    ask.add(Formula.AGE_RATIO, ask.cell(Op.GAPS, 4), ask.cell(Op.GAPS, 1))


def last_values(ask: Ask) -> None:
    k = ask.values.get("k", 1)
    for j in range(k):
        ask.add(Formula.VALUE, ask.cell(Op.LAST, j, size=k))


def trend(ask: Ask) -> None:
    """Rates: each measure by the days of its window."""
    far = ask.far_window()
    days, far_days = ask.spec.window.width_us / DAY_US, far / DAY_US
    ask.add(Formula.RATIO, ask.measure(), ask.measure(window=far), f0=far_days, f1=days)


def ratio(ask: Ask) -> None:
    ask.add(Formula.RATIO, ask.measure(), ask.measure(window=ask.far_window()))


def share(ask: Ask) -> None:
    """Of other kinds, else of the same events without the condition."""
    ask.add(Formula.RATIO, ask.measure(), ask.measure(kinds=ask.far_kinds(), where=False))


def sum_per(ask: Ask) -> None:
    per = ask.cell(Op.DISTINCT, of=ask.values["per"])
    ask.add(Formula.RATIO, ask.cell(Op.SUM, 1), per, ask.cell(Op.SUM, 0))


def decay(ask: Ask) -> None:
    half_life = float(ask.values["half_life"])
    cells = [ask.cell(Op.DECAY, j, p0=half_life) for j in (0, 1)]
    ask.add(Formula.DECAY, *cells, f0=half_life, f1=2.0)


def entropy(ask: Ask) -> None:
    ask.add(Formula.ENTROPY, ask.cell(Op.KEYS, 0), ask.cell(Op.KEYS, 1))


def top_keys(ask: Ask) -> None:
    k = ask.values.get("k", 3)
    for j in range(k):
        ask.add(Formula.VALUE, ask.cell(Op.TOPK, 2 * j + 1, size=k))


def last_key(ask: Ask) -> None:
    ask.add(Formula.VALUE, ask.cell(Op.TOPK, 1, last=1))


def bands(ask: Ask) -> None:
    edges = ask.values["edges"]
    for low, high in zip((None, *edges), (*edges, None), strict=True):
        ask.add(Formula.RATIO, ask.band(low, high), ask.cell(Op.SUM, 0))


def wave(code: Formula) -> Callable[[Ask], None]:
    return lambda ask: ask.add(code, ask.hist(), ask.cell(Op.COUNT, of=None), size=CLOCK_SIZE[ask.of or ""])


def clock_share(ask: Ask) -> None:
    first = 0 if ask.of == "hour" else 1
    mask = sum(1 << (place - first) for place in ask.values["in"])
    size = CLOCK_SIZE[ask.of or ""]
    ask.add(Formula.SUBSET, ask.hist(), ask.cell(Op.COUNT, of=None), size=size, mask=mask)


def of_hist(code: Formula) -> Callable[[Ask], None]:
    return lambda ask: ask.add(code, ask.hist(), size=CLOCK_SIZE[ask.of or ""])


def same_weekday(ask: Ask) -> None:
    ask.add(Formula.WEEKDAY, ask.hist(Key.WEEKDAY), ask.cell(Op.COUNT), size=7)


def holiday_share(ask: Ask) -> None:
    ask.add(Formula.SUBSET, ask.hist(Key.HOLIDAY), ask.cell(Op.COUNT), size=2, mask=2)


def funnel(j: int | None) -> Callable[[Ask], None]:
    return lambda ask: ask.add(Formula.VALUE, ask.funnel(ask.values["step"] if j is None else j))


def funnel_rate(ask: Ask) -> None:
    steps = ask.values["steps"]
    ask.add(Formula.RATIO, ask.funnel(ask.values.get("step", len(steps))), ask.funnel(1))


def timed(op: Op, code: Formula, *places: int, f0: float = 1.0, f1: float = 1.0) -> Callable[[Ask], None]:
    """A formula over cells of an operation that has a timeout."""

    def build(ask: Ask) -> None:
        timeout = float(ask.values["timeout"])
        ask.add(code, *(ask.cell(op, j, p0=timeout) for j in places), f0=f0, f1=f1)

    return build


def dwell(code: Formula, *places: int, f1: float = 1.0) -> Callable[[Ask], None]:
    return lambda ask: ask.add(code, *(ask.dwell(j) for j in places), f1=f1)


def words(ask: Ask) -> None:
    buckets = ask.values["buckets"]
    for j in range(buckets):
        ask.add(Formula.VALUE, ask.cell(Op.WORDS, j, size=buckets))


def percentile(ask: Ask) -> None:
    """The value itself; standing.py ranks it."""
    ask.again()


def item_popularity(ask: Ask) -> None:
    """The item itself, which is an anchor too; standing.py counts."""
    ask.add(Formula.VALUE, ask.cell(Op.LAST_KEY, of="item", window=LIFETIME_US))
