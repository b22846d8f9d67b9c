"""From specs to columns (names, words) and to the one plan that computes them all in a single pass."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ubp_sql.errors import BadInput
from ubp_sql.features.aggregates import RULES, Rule
from ubp_sql.features.ask import Ask, key_code
from ubp_sql.features.columns import CLOCK, CLOCK_SIZE, Columns
from ubp_sql.features.settings import WEEKDAYS, checked
from ubp_sql.features.spec import MAX_NAME, Condition, FeatureSpec
from ubp_sql.features.suggest import meant
from ubp_sql.features.windows import Window, parse_width, shown

if TYPE_CHECKING:
    from ubp_sql.kernels.dispatch import Plan

WIDTHS = ("half_life", "bound", "timeout")
_NAMES = {"all": "all", "width": "a width such as 7d", "last": "last n", "tumbling": "k x width"}


def checked_spec(
    spec: FeatureSpec, types: Mapping[str, str], earlier: Mapping[str, FeatureSpec] | None = None
) -> FeatureSpec:
    """The spec in its one spelling: equal specs give equal features.

    types    name to number, key, order, clock, cycle or words of the columns there are
    earlier  name to spec of the set's features before it

    Raises BadInput (UB003) on an unknown aggregate, column or setting, and on what the aggregate does not take.
    """
    rule = RULES.get(spec.aggregate)
    if rule is None:
        close = meant(spec.aggregate, RULES)
        raise BadInput(
            f"feature {spec.name!r}: unknown aggregate {shown(spec.aggregate)}",
            f"{close} docs/features.md has all {len(RULES)}" if close else f"one of {', '.join(RULES)}",
        )
    _check_kinds(spec, rule)
    of = _checked_base(spec, earlier or {}) if rule.of_feature else _checked_of(spec, rule, types)
    if spec.window.form not in rule.windows:
        takes = ", ".join(_NAMES[form] for form in rule.windows)
        raise BadInput(
            f"feature {spec.name!r}: {spec.aggregate} takes no window {spec.window.text!r}", f"it takes: {takes}"
        )
    if spec.where and not rule.where:
        raise BadInput(f"feature {spec.name!r}: {spec.aggregate} takes no where", "leave it out")
    spec = _with(spec, of=of)
    spec = _with(
        spec,
        where=tuple(_checked_condition(spec, c, types) for c in spec.where),
        settings=checked(spec, rule.settings, spec.aggregate),
    )
    numbers = sum(types[c.column] == "number" for c in spec.where)
    if len(spec.where) == 2 and numbers != 1:
        raise BadInput(f"feature {spec.name!r}: where has two conditions of one sort", "one on a number, one on a key")
    _check_rest(spec, rule, types)
    return spec


def _with(spec: FeatureSpec, **changes: Any) -> FeatureSpec:
    parts = {name: getattr(spec, name) for name in ("name", "aggregate", "kinds", "of", "window", "where", "against")}
    return FeatureSpec(**{**parts, "settings": spec.settings, **changes})


def _check_kinds(spec: FeatureSpec, rule: Rule) -> None:
    if rule.own_kinds and not spec.kinds:
        raise BadInput(f"feature {spec.name!r}: {spec.aggregate} needs kinds", "for example array['purchase']")
    if not rule.own_kinds and spec.kinds:
        where = "from the feature that it is of" if rule.of_feature else "as the setting steps"
        raise BadInput(f"feature {spec.name!r}: {spec.aggregate} takes its kinds {where}", "leave kinds out")


def _checked_of(spec: FeatureSpec, rule: Rule, types: Mapping[str, str]) -> str | None:
    of = spec.of if spec.of is not None else rule.usual_of
    wanted = [kind for kind in rule.of if kind != "none"]
    fit = [name for name, kind in types.items() if kind in wanted]
    if of is None:
        if "none" not in rule.of:
            raise BadInput(f"feature {spec.name!r}: {spec.aggregate} needs a column (of)", _columns_hint(fit))
        return None
    if of not in types:
        raise BadInput(
            f"feature {spec.name!r}: there is no event column {of!r}",
            f"{_columns_hint(fit)}; ubp.define_event_column declares another",
        )
    if types[of] not in wanted:
        what = f"takes no column {of!r}" if wanted else "takes no column (of)"
        raise BadInput(f"feature {spec.name!r}: {spec.aggregate} {what}", _columns_hint(fit))
    return of


def _checked_base(spec: FeatureSpec, earlier: Mapping[str, FeatureSpec]) -> str:
    """The feature that `of` names: one whose value stays as it is until an event comes, leaves a window or changes."""
    if spec.of is None:
        raise BadInput(
            f"feature {spec.name!r}: {spec.aggregate} needs an earlier feature of the set (of)", "for example a count"
        )
    base = earlier.get(spec.of)
    if base is None:
        raise BadInput(
            f"feature {spec.name!r}: the set has no feature {spec.of!r} before it",
            f"{meant(spec.of, earlier)} define the feature first; ubp.feature_catalogue lists a set's".strip(),
        )
    if RULES[base.aggregate].ages:
        raise BadInput(
            f"feature {spec.name!r}: {spec.of!r} ({base.aggregate}) changes with the moment alone",
            f"{spec.aggregate} takes features that only events change: counts, sums, means, gaps, shares",
        )
    if RULES[base.aggregate].standing:
        raise BadInput(
            f"feature {spec.name!r}: {spec.of!r} ({base.aggregate}) speaks of all users itself",
            f"{spec.aggregate} takes features of one user's events: counts, sums, means, gaps, shares",
        )
    return spec.of


def _columns_hint(names: Sequence[str]) -> str:
    return f"columns that fit: {', '.join(names)}" if names else "leave of out, or declare one: ubp.define_event_column"


def _checked_condition(spec: FeatureSpec, c: Condition, types: Mapping[str, str]) -> Condition:
    kind = types.get(c.column)
    if kind is None or kind == "words" or c.column == "order":
        fit = [name for name, kind in types.items() if kind != "words" and name != "order"]
        more = "; ubp.define_event_column declares another" if kind is None else ""
        raise BadInput(f"feature {spec.name!r}: where cannot ask for column {c.column!r}", _columns_hint(fit) + more)
    if kind == "number":
        if isinstance(c.equals, str):
            raise BadInput(f"feature {spec.name!r}: {c.column} is a number, not {shown(c.equals)}", "for example 10")
        return c if c.equals is None else c._replace(equals=float(c.equals))
    if c.equals is None:
        raise BadInput(f"feature {spec.name!r}: {c.column} is no number", "name the one value that it must equal")
    if c.column == "weekday" and isinstance(c.equals, str) and c.equals.lower()[:3] in WEEKDAYS:
        c = c._replace(equals=1 + WEEKDAYS.index(c.equals.lower()[:3]))
    if isinstance(c.equals, float) and c.equals.is_integer() and abs(c.equals) < 1 << 53:
        c = c._replace(equals=int(c.equals))
    text = types[c.column] == "key" and c.column != "item"
    if isinstance(c.equals, str) is not text or isinstance(c.equals, float):
        raise BadInput(
            f"feature {spec.name!r}: {c.column} cannot equal {shown(c.equals)}", "a text" if text else "a whole number"
        )
    if c.column in CLOCK_SIZE and not 0 <= key_code(c) < CLOCK_SIZE[c.column]:
        raise BadInput(
            f"feature {spec.name!r}: there is no {c.column} {c.equals}", "hours 0-23, weekdays 1-7, months 1-12"
        )
    return c


def _check_rest(spec: FeatureSpec, rule: Rule, types: Mapping[str, str]) -> None:
    if spec.against is not None and not rule.against:
        raise BadInput(f"feature {spec.name!r}: {spec.aggregate} takes no against", "leave it out")
    if rule.against == "window":
        far = spec.against
        if not isinstance(far, Window) or far.form not in ("width", "all") or far.width_us <= spec.window.width_us:
            raise BadInput(
                f"feature {spec.name!r}: {spec.aggregate} needs a window longer than {spec.window.text} as against",
                """for example '{"against": "90d"}'""",
            )
        if spec.aggregate == "trend" and far.form == "all":
            raise BadInput(f"feature {spec.name!r}: 'all' has no rate", "use ratio, or a width")
    if rule.against == "kinds?":
        if isinstance(spec.against, Window):
            raise BadInput(f"feature {spec.name!r}: share is held against kinds", """'{"against": ["view"]}'""")
        if spec.against is None and not spec.where:
            raise BadInput(
                f"feature {spec.name!r}: share needs kinds as against, or a where", """'{"against": ["view"]}'"""
            )
    if (per := spec.settings.get("per")) is not None and types.get(per) not in ("key", "order", "clock", "cycle"):
        raise BadInput(
            f"feature {spec.name!r}: there is no key {per!r} to divide by", "order, item, day or a text column"
        )
    if (step := spec.settings.get("step")) is not None and step > len(spec.settings["steps"]):
        raise BadInput(f"feature {spec.name!r}: step {step} of {len(spec.settings['steps'])}", "steps count from 1")
    if len(rule.columns(values_of(spec))) > 1 and spec.window.buckets:
        raise BadInput(
            f"feature {spec.name!r}: {spec.aggregate} makes several columns and takes no buckets",
            "one feature a bucket",
        )
    longest = max(len(name) for name in names_of(spec))
    if longest > MAX_NAME:
        raise BadInput(
            f"feature {spec.name!r}: its columns' names would have {longest} letters, more than {MAX_NAME}",
            "a shorter name",
        )


def values_of(spec: FeatureSpec) -> dict[str, Any]:
    """Settings as rules take them: defaults filled in, widths in microseconds."""
    found: dict[str, Any] = {}
    for key, setting in RULES[spec.aggregate].settings.items():
        value = spec.settings.get(key, setting.default)
        if value is not None:
            found[key] = parse_width(value, key, spec.name) if key in WIDTHS else value
    return found


def parts_of(spec: FeatureSpec) -> list[tuple[str, int]]:
    """(what the rule says of it, bucket) of each column."""
    if spec.window.buckets:
        return [("", bucket) for bucket in range(spec.window.buckets)]
    return [(detail, 0) for detail in RULES[spec.aggregate].columns(values_of(spec))]


def names_of(spec: FeatureSpec) -> list[str]:
    """The names of its columns."""
    parts = parts_of(spec)
    return [spec.name] if len(parts) == 1 else [f"{spec.name}_{n + 1}" for n in range(len(parts))]


def kinds_of(spec: FeatureSpec) -> tuple[str, ...]:
    """Every kind that it looks at, in the order in which it names them."""
    named = [*spec.kinds, *spec.settings.get("steps", ()), *spec.settings.get("until", ())]
    if spec.against is not None and not isinstance(spec.against, Window):
        named += spec.against
    return tuple(dict.fromkeys(named))


def columns_of(spec: FeatureSpec) -> tuple[str, ...]:
    """Every column that it reads, clock columns too."""
    own = {"same_weekday_share": "weekday", "holiday_share": "holiday", "item_popularity": "item"}.get(spec.aggregate)
    of = None if RULES[spec.aggregate].of_feature else spec.of
    named = [of, own, spec.settings.get("per"), *(c.column for c in spec.where)]
    return tuple(dict.fromkeys(name for name in named if name is not None))


def read_columns(specs: Sequence[FeatureSpec], types: Mapping[str, str]) -> Columns:
    """What a pass over all specs reads, in the order of first use."""
    used = list(dict.fromkeys(name for spec in specs for name in columns_of(spec)))
    numbers = tuple(name for name in used if types[name] == "number")
    keys = tuple(name for name in used if types[name] in ("key", "order", "words"))
    return Columns(numbers, keys, any(name in CLOCK for name in used))


def asks(
    spec: FeatureSpec, kinds: Sequence[str], columns: Columns, builder: Any, places: Mapping[str, int] | None = None
) -> Iterator[Ask]:
    values = values_of(spec)
    for bucket in range(max(1, spec.window.buckets)):
        yield Ask(builder, kinds, columns, spec, values, bucket, places)


def plan_of(specs: Sequence[FeatureSpec], kinds: Sequence[str], columns: Columns) -> "Plan":
    """One plan for all specs: what they share (streams, windows, links, operations) is in it once.

    Raises BadInput (UB003) on a set beyond what the kernels take.
    """
    from ubp_sql.kernels.plan_build import PlanBuilder

    builder = PlanBuilder(len(kinds))
    places: dict[str, int] = {}
    for spec in specs:
        for ask in asks(spec, kinds, columns, builder, places):
            RULES[spec.aggregate].build(ask)
        for name in names_of(spec):
            places[name] = len(places)
    return builder.plan()
