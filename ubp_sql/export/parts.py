"""Operations of a plan as queries: each part gives one row a user, with the columns that formulas asked it for.

What docs/adr/0008-op-machine.md does by loops is done by set here, with the same additions in the same order: sums
newest event to oldest within a ring, then ring by ring. A sum over a sorted subquery is taken in its order, since the
order begins with what is grouped by.
"""

from collections.abc import Callable

from ubp_sql.export.columns import EVERYTHING, key_column
from ubp_sql.export.quoting import number
from ubp_sql.kernels.codes import LIFETIME_US, STEP_BITS, Key, LinkColumn, OpColumn, Param, SpanColumn, StreamColumn
from ubp_sql.kernels.dispatch import DAY_US, Op, Plan

EPOCH_US = "(extract(epoch from {}) * 1000000)::bigint"
DAY_SHARE = 1.0 / DAY_US


class Columns:
    """Expressions by the name that they get: each is written once."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.names: dict[str, str] = {}

    def add(self, expression: str) -> str:
        return self.names.setdefault(expression, f"{self.prefix}{len(self.names)}")

    def listed(self) -> str:
        return "".join(f", {expression} as {name}" for expression, name in self.names.items())


class Part:
    """One CTE: a row a user.

    inner  gives the rows that are grouped by user; called when all columns are known
    """

    def __init__(self, name: str, inner: Callable[[], str]) -> None:
        self.name, self.inner = name, inner
        self.columns = Columns("c")

    def add(self, expression: str) -> str:
        """A column of the part, as its readers name it."""
        return f"{self.name}.{self.columns.add(expression)}"

    def text(self) -> str:
        return f"{self.name} as (select u{self.columns.listed()} from ({self.inner()}) x group by u)"


class Spans:
    """The streams of a plan, cut into rings, as subqueries over `known`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.edges = sorted({int(w) for w in plan.edges_us if w < LIFETIME_US})
        named = (plan.links[:, LinkColumn.KEY], plan.streams[:, StreamColumn.COND_KEY], plan.ops[:, OpColumn.KEY])
        self.clock = sorted({int(key) for keys in named for key in keys if key < Key.NONE})

    def edge(self, width_us: int) -> str:
        """The variable that holds where a window of that width begins."""
        return f"edge{self.edges.index(width_us)}"

    def declarations(self) -> list[str]:
        # In seconds: days of an interval would follow the session's time zone over a change of its clock.
        return [f"  edge{n} timestamptz := now_at - {interval(w)};" for n, w in enumerate(self.edges)]

    def text(self, q: int) -> str:
        """Stream q as a CTE: its events with what its operations read, and of each of its spans the ring, or NULL."""
        columns = ["u", "t", "g", "i", *sorted(self._read(q))]
        for span, row in enumerate(self.plan.spans):
            if row[SpanColumn.STREAM] == q and not row[SpanColumn.LAST_N]:
                columns.append(f"{self._ring(span)} as r{span}")
        return f"q{q} as materialized (select {', '.join(columns)} from known where {self._taken(q)})"

    def _read(self, q: int) -> set[str]:
        found = set()
        for row in self.plan.ops:
            if row[OpColumn.STREAM] == q:
                if row[OpColumn.NUMBER] >= 0:
                    found.add(f"n{row[OpColumn.NUMBER]}")
                if row[OpColumn.KEY] not in (Key.NONE, Key.ALL):
                    found.add(key_column(int(row[OpColumn.KEY])))
                if row[OpColumn.STEPS]:
                    found.add("k")
        return found

    def _taken(self, q: int) -> str:
        """Which events of `known` stream q takes."""
        mask, column, key, equals, _ = map(int, self.plan.streams[q])
        conditions = [f"k in ({', '.join(map(str, bits(mask)))})"]
        if column >= 0:
            low, high = map(float, self.plan.stream_params[q])
            conditions.append(f"n{column} >= {number(low)} and n{column} < {number(high)}")
        if key != Key.NONE:
            conditions.append(f"{key_column(key)} = {equals}")
        return " and ".join(conditions)

    def _ring(self, span: int) -> str:
        _, edge, rings, _, _, _ = map(int, self.plan.spans[span])
        widths = [int(w) for w in self.plan.edges_us[edge : edge + rings]]
        whens = " ".join(f"when t >= {self.edge(w)} then {v}" for v, w in enumerate(widths) if w < LIFETIME_US)
        otherwise = rings - 1 if widths[-1] >= LIFETIME_US else "null"
        return f"case {whens} else {otherwise} end" if whens else str(otherwise)

    def rows(self, span: int) -> str:
        """The events of a span: columns of its stream, and r, the ring."""
        q, last_n = int(self.plan.spans[span, SpanColumn.STREAM]), int(self.plan.spans[span, SpanColumn.LAST_N])
        if not last_n:
            return f"select *, r{span} as r from q{q} where r{span} is not null"
        place = f"row_number() over (partition by u order by {EVERYTHING}) as place"
        return f"select *, 0 as r from (select *, {place} from q{q}) n where place <= {last_n}"


class OpPart:
    """One operation of the plan; `cell(v, j)` is its cell as an expression over joined parts."""

    def __init__(self, spans: Spans, o: int, parts: dict[str, Part]) -> None:
        row = spans.plan.ops[o]
        self.spans, self.o, self.parts = spans, o, parts
        self.code, self.span = Op(int(row[OpColumn.CODE])), int(row[OpColumn.SPAN])
        self.rings, self.cumulative = int(row[OpColumn.RINGS]), bool(row[OpColumn.CUMULATIVE])
        self.size, self.steps = int(row[OpColumn.SIZE]), int(row[OpColumn.STEPS])
        self.kinds, self.number = int(row[OpColumn.KINDS]), f"n{int(row[OpColumn.NUMBER])}"
        self.p0 = float(spans.plan.params[o, Param.P0])
        key = int(row[OpColumn.KEY])
        self.key = key_column(key) if key != Key.NONE else ""

    def inside(self, v: int) -> str:
        """Which rings window v holds."""
        return f"r <= {v}" if self.cumulative else f"r = {v}"

    def part(self, name: str, inner: Callable[[], str]) -> Part:
        return self.parts.setdefault(name, Part(name, inner))


def interval(width_us: int) -> str:
    seconds, rest = divmod(width_us, 1_000_000)
    return f"interval '{seconds}.{rest:06d} seconds'" if rest else f"interval '{seconds} seconds'"


def bits(mask: int) -> list[int]:
    return [k for k in range(mask.bit_length()) if mask >> k & 1]


def steps_of(mask: int, size: int) -> list[int]:
    """The kinds of a funnel's steps."""
    return [(mask >> (STEP_BITS * j) & ((1 << STEP_BITS) - 1)) - 1 for j in range(size)]
