"""The view of a feature set: one named, typed column per feature, those that age finished at the set's moment.

What does not age is an element of an array. What does is computed from the row's anchors with the kernel's own
arithmetic (kernels/_cpu_formulas.py), operation by operation, so that the bits are equal: a row is rewritten only when
its user's events change, and speaks of the set's moment all the same. The set's moment comes from a sub-select without
a reference to the row, which PostgreSQL runs once a query and only for columns that are asked for.
"""

from collections.abc import Callable, Iterator
from typing import Any

from ubp_sql.api.moments import FeatureSet
from ubp_sql.features.definition import FeatureDefinition
from ubp_sql.kernels.codes import AGEING, ANCHOR_EPOCH_US, Formula, FormulaColumn

Quote = Callable[[str], str]
F32_MAX = "3.4028234663852886e38"
# At and below half of the least float32 above 0 a value is 0: the cast to real would refuse it.
LEAST = "7.006492321624086e-46"


def view_statements(found: FeatureSet, ident: Quote, literal: Quote) -> Iterator[str]:
    """DDL of ubp.user_features (set default) or ubp.user_features_<name>.

    ident, literal  the server's quoting of names and texts
    """
    view = ident(_view_name(found.name))
    aged = ageing_columns(found)
    columns = []
    for f in found.definition.features:
        value = aged.get(f.position) or _element(f)
        columns.append(f"{value} as {ident(f.name)}")
    of_set = _of_set(found.feature_set_id)
    # every part is quoted or a number of ours
    yield (
        f"create or replace view ubp.{view} as select r.user_id, (select s.as_of {of_set}) as as_of, "  # noqa: S608
        f"{', '.join(columns)} from ubp.feature_rows r where r.feature_set_id = {found.feature_set_id}"
    )
    yield f"comment on view ubp.{view} is {literal(f'Features of set {found.name}, one row a user')}"
    yield f"grant select on ubp.{view} to ubp_analyst, ubp_auditor, ubp_loader, ubp_reader"
    for f in found.definition.features:
        yield f"comment on column ubp.{view}.{ident(f.name)} is {literal(f'{f.meaning} [{f.unit}]')}"


def drop_statement(set_name: str, ident: Quote) -> str:
    """DDL that drops the view of a set."""
    return f"drop view if exists ubp.{ident(_view_name(set_name))}"


def _view_name(set_name: str) -> str:
    return "user_features" if set_name == "default" else f"user_features_{set_name}"


def _element(f: FeatureDefinition) -> str:
    element = f"r.features[{f.position + 1}]"
    if not f.null_rule.startswith("never NULL"):
        element = f"nullif({element}, 'NaN')"
    return element if f.sql_type == "real" else f"{element}::{f.sql_type}"


def ageing_columns(found: FeatureSet) -> dict[int, str]:
    """Position to SQL of each feature that ages."""
    plan = found.definition.plan
    place = {int(cell): k + 1 for k, cell in enumerate(plan.anchors)}
    made = {}
    for position, (row, factors) in enumerate(zip(plan.formulas, plan.factors, strict=True)):
        if row[FormulaColumn.CODE] in AGEING:
            value = _formula(found.feature_set_id, row, [float(f) for f in factors], place)
            stored = _element(found.definition.features[position])
            # A row of the set's own moment is right as it stands, and read at the price of an element. Anchors are
            # numbered by the plan: those of rows from before the set grew are other ones.
            same = f"r.as_of = (select s.as_of {_of_set(found.feature_set_id)})"
            aged = f"when cardinality(r.anchors) = {len(place)} then {value}"
            made[position] = f"case when {same} then {stored} {aged} else {stored} end"
    return made


def _of_set(number: int) -> str:
    return f"from ubp.feature_sets s where s.feature_set_id = {number}"


def _formula(number: int, row: Any, factors: list[float], place: dict[int, int]) -> str:
    code, cell_a, cell_b = (int(row[c]) for c in (FormulaColumn.CODE, FormulaColumn.A, FormulaColumn.B))
    a, b = f"r.anchors[{place[cell_a]}]", f"r.anchors[{place.get(cell_b, 0)}]"
    of_set = _of_set(number)
    now = f"(select (s.as_of_us - {ANCHOR_EPOCH_US})::double precision {of_set})"
    if code == Formula.AGE:
        return f"nullif(({now} - {a}) / {factors[1]!r}::double precision, 'NaN')::real"
    if code == Formula.AGE_RATIO:
        return f"nullif(({now} - {a}) / nullif({b}, 0), 'NaN')::real"
    if code == Formula.WEEKDAY:
        weekday = f"(select s.as_of_weekday {of_set})"
        return f"nullif(r.anchors[{place[cell_a]} + {weekday}] / nullif({b}, 0), 'NaN')::real"
    return _decay(now, a, b, factors)


def _decay(now: str, a: str, b: str, factors: list[float]) -> str:
    """a * f1 ** (-(now - b) / f0), where PostgreSQL would raise an error at what is too small or too large for it."""
    halvings = f"({now} - {b}) / {factors[0]!r}::double precision"
    part = f"power({factors[1]!r}::double precision, ({b} - {now}) / {factors[0]!r}::double precision)"
    return (
        # What nearly every row has comes first: it needs power() once and none of the checks below.
        f"case when {a} > 1e-9 and {a} < 3e38 and {halvings} between 0 and 100 then {a} * {part}"
        f" when {b} = 'NaN' then 0 when {a} = 'NaN' then null"
        # There 2**-x is 0, and infinity times 0 no number.
        f" when {halvings} >= 1075 then case when abs({a}) < 'infinity' then 0 end"
        f" when abs({a}) <= {LEAST} / {part} then 0"
        f" when abs({a}) * {part} >= {F32_MAX} then sign({a}) * {F32_MAX}"
        f" else {a} * {part} end::real"
    )
