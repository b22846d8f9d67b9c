"""Formulas of a plan in SQL: from cells to features, as kernels/_cpu_formulas.py finishes them. NULL is no value."""

from collections.abc import Callable

from ubp_sql.export.operations import cell
from ubp_sql.export.parts import Columns, OpPart, Part, Spans, bits
from ubp_sql.export.quoting import float8
from ubp_sql.kernels.codes import Formula, FormulaColumn, OpColumn

NOW = "now_us"
FAR, NEAR, SMALL = 1000, 500, 1e-6
"""Of 2**-e: beyond FAR nothing is left, beyond NEAR nothing of what is SMALL; power() would refuse to say so."""


class Formulas:
    """The features of a plan as expressions; `parts` are the CTEs that they read."""

    def __init__(self, spans: Spans) -> None:
        self.plan = spans.plan
        self.parts: dict[str, Part] = {}
        self.ops = [OpPart(spans, o, self.parts) for o in range(len(self.plan.ops))]
        self.places = [
            (op, v, j)
            for op, row in zip(self.ops, self.plan.ops, strict=True)
            for v in range(op.rings)
            for j in range(int(row[OpColumn.STRIDE]))
        ]

    def feature(self, f: int) -> str:
        """Feature f in float8, not yet rounded."""
        row = self.plan.formulas[f]
        code = Formula(int(row[FormulaColumn.CODE]))
        return _FORMULAS[code](self, f)

    def at(self, f: int, column: FormulaColumn) -> tuple[OpPart, int, int]:
        return self.places[int(self.plan.formulas[f, column])]

    def a(self, f: int) -> str:
        return cell(*self.at(f, FormulaColumn.A))

    def b(self, f: int) -> str:
        return cell(*self.at(f, FormulaColumn.B))

    def factor(self, f: int, k: int) -> float:
        return float(self.plan.factors[f, k])

    def hist(self, f: int) -> "_Hist":
        op, v, _ = self.at(f, FormulaColumn.A)
        return _Hist(op, v)


class _Hist:
    """Events by hour, weekday, month or holiday, in window v."""

    def __init__(self, op: OpPart, v: int) -> None:
        name = f"i{op.o}"
        if name not in op.parts:
            op.parts[name] = _HistPart(name, op)
        part = op.parts[name]
        assert isinstance(part, _HistPart)  # noqa: S101 - no other part is called so
        self.part = part
        self.n = part.counts.add(f"count(*) filter (where {op.inside(v)})")

    def add(self, expression: str) -> str:
        return self.part.add(expression)


class _HistPart(Part):
    def __init__(self, name: str, op: OpPart) -> None:
        self.counts = Columns("a")
        rows = op.spans.rows(op.span)
        super().__init__(
            name,
            lambda: (
                f"select * from (select u, {op.key} as h{self.counts.listed()} from ({rows}) e"
                f" group by u, {op.key}) e order by u, h"
            ),
        )


def _times(x: str, factor: float) -> str:
    return x if factor == 1.0 else f"{x} * {float8(factor)}"


def _value(all_: Formulas, f: int) -> str:
    value = _times(f"({all_.a(f)})::float8", all_.factor(f, 0))
    under = all_.factor(f, 1)
    return value if under == 1.0 else f"{value} / {float8(under)}"


def _ratio(all_: Formulas, f: int) -> str:
    over = _times(f"({all_.a(f)})::float8", all_.factor(f, 0))
    under = _times(f"({all_.b(f)})::float8", all_.factor(f, 1))
    value = f"({over}) / nullif({under}, 0)"
    if all_.plan.formulas[f, FormulaColumn.C] < 0:
        return value
    return f"case when {cell(*all_.at(f, FormulaColumn.C))} <> 0 then {value} end"


def _age(all_: Formulas, f: int) -> str:
    return f"({NOW} - {all_.a(f)})::float8 / {float8(all_.factor(f, 1))}"


def _age_ratio(all_: Formulas, f: int) -> str:
    return f"({NOW} - {all_.a(f)})::float8 / nullif({all_.b(f)}, 0)"


def _decay(all_: Formulas, f: int) -> str:
    total, at = all_.a(f), all_.b(f)
    power = f"({NOW} - {at})::float8 / {float8(all_.factor(f, 0))}"
    gone = f"{power} > {FAR} or ({power} > {NEAR} and abs({total}) < {float8(SMALL)})"
    halved = f"{total} * power({float8(all_.factor(f, 1))}, -({NOW} - {at})::float8 / {float8(all_.factor(f, 0))})"
    return f"case when {at} is null or {gone} then 0 else {halved} end"


def _weekday(all_: Formulas, f: int) -> str:
    hist = all_.hist(f)
    found = hist.add(f"coalesce(sum({hist.n}) filter (where h = now_weekday), 0)")
    return f"({found})::float8 / nullif({all_.b(f)}, 0)::float8"


def _wave(all_: Formulas, f: int) -> str:
    hist, first = all_.hist(f), int(all_.plan.formulas[f, FormulaColumn.MASK])
    waves = map(float, all_.plan.waves[first : first + int(all_.plan.formulas[f, FormulaColumn.SIZE])])
    wave = f"(array[{','.join(map(float8, waves))}])[h + 1]"
    return f"({hist.add(f'0 + sum({hist.n}::float8 * {wave})')}) / nullif({all_.b(f)}, 0)::float8"


def _subset(all_: Formulas, f: int) -> str:
    hist, chosen = all_.hist(f), bits(int(all_.plan.formulas[f, FormulaColumn.MASK]))
    found = hist.add(f"coalesce(sum({hist.n}) filter (where h in ({', '.join(map(str, chosen))})), 0)")
    return f"({found})::float8 / nullif({all_.b(f)}, 0)::float8"


def _entropy_of(n: str, total: str) -> str:
    return f"case when {n} > 0 then greatest(ln({n}::float8) - {total} / {n}::float8, 0) end"


def _entropy(all_: Formulas, f: int) -> str:
    return _entropy_of(f"({all_.a(f)})", f"({all_.b(f)})")


def _hist_entropy(all_: Formulas, f: int) -> str:
    hist = all_.hist(f)
    n = hist.add(f"sum({hist.n})")
    total = hist.add(f"sum(case when {hist.n} > 0 then {hist.n}::float8 * ln({hist.n}::float8) else 0 end)")
    return _entropy_of(n, total)


def _difference(all_: Formulas, f: int) -> str:
    return f"({_times(all_.a(f), all_.factor(f, 0))}) - ({_times(all_.b(f), all_.factor(f, 1))})"


def _index_max(all_: Formulas, f: int) -> str:
    hist = all_.hist(f)
    return hist.add(f"(array_agg(h order by {hist.n} desc, h) filter (where {hist.n} > 0))[1]::float8")


_FORMULAS: dict[Formula, Callable[[Formulas, int], str]] = {
    Formula.VALUE: _value,
    Formula.RATIO: _ratio,
    Formula.AGE: _age,
    Formula.AGE_RATIO: _age_ratio,
    Formula.DECAY: _decay,
    Formula.WEEKDAY: _weekday,
    Formula.WAVE_SIN: _wave,
    Formula.WAVE_COS: _wave,
    Formula.SUBSET: _subset,
    Formula.ENTROPY: _entropy,
    Formula.HIST_ENTROPY: _hist_entropy,
    Formula.DIFFERENCE: _difference,
    Formula.INDEX_MAX: _index_max,
}
