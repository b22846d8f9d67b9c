"""What a definition may say: every refusal in one clear line, and never another error whatever the JSON."""

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.features.spec_cases import COLUMNS, cases
from ubp_sql.errors import BadInput
from ubp_sql.features.aggregates import RULES
from ubp_sql.features.columns import Declared
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.spec import FeatureSpec

DECLARED = tuple(Declared(*column) for column in COLUMNS)


def made(*definitions: Any) -> FeatureSetDefinition:
    """The set of these definitions, compiled."""
    specs = tuple(FeatureSpec.from_mapping(definition) for definition in definitions)
    definition = FeatureSetDefinition((), (), specs, DECLARED)
    assert definition.plan.formulas.shape[0] == definition.n_features
    return definition


def view(aggregate: Any = "count", **rest: Any) -> dict[str, Any]:
    return {"name": "f", "aggregate": aggregate, "kinds": ["view"], **rest}


def funnel(steps: Any, **rest: Any) -> dict[str, Any]:
    return {"name": "f", "aggregate": "funnel_rate", "settings": {"steps": steps, "bound": "1h", **rest}}


def test_the_cases_use_every_aggregate_and_read_back() -> None:
    definition = made(*cases())
    assert {spec.aggregate for spec in definition.specs} == set(RULES)
    assert FeatureSetDefinition.from_json(definition.to_json()) == definition
    for feature in definition.features:
        for text in (feature.meaning, feature.unit, feature.null_rule, feature.edge_rule, feature.cost):
            assert text
            assert "{" not in text.replace("it's", ""), text
        assert feature.meaning[0].isupper() or feature.meaning[0].isdigit() or feature.meaning[0] == "i"


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        (3, "not a list of fields"),
        ({}, "no name"),
        (view(name="Upper"), "no name"),
        (view(name="1st"), "no name"),
        (view(name=""), "no name"),
        (view(name="a" * 64), "no name"),
        (view(name='x"; drop table ubp.events --'), "no name"),
        (view(name="user_id"), "is a column"),
        (view(typo=1), "no field 'typo'"),
        (view(kind=["view"]), "no field 'kind'"),
        (view(aggregate="median"), "unknown aggregate"),
        (view(aggregate=None), "not text"),
        (view(kinds=None), "needs kinds"),
        (view(kinds=[]), "1 to 16 event kinds"),
        (view(kinds=["view", "view"]), "comes twice"),
        (view(kinds=[3]), "not text"),
        (view(kinds=["a\0b"]), "control character"),
        (view(kinds=["\ud800"]), "control character"),
        (view(kinds=["x" * 201]), "longer than 200"),
        (view(kinds=[f"k{n}" for n in range(17)]), "1 to 16 event kinds"),
        (view("sum", of="price"), "no event column 'price'"),
        (view("sum", of="item"), "takes no column 'item'"),
        (view("distinct", of="value"), "takes no column 'value'"),
        (view(of="value"), "takes no column"),
        (view(of=7), "no column"),
        (view(of="a'b"), "no column"),
        (view("words"), "needs a column"),
        (view("words", of="channel"), "takes no column"),
        (view("clock_sin", of="holiday"), "takes no column"),
        (view(window=""), "no window"),
        (view(window=7), "no window"),
        (view(window="7"), "no window"),
        (view(window="0d"), "no length of time"),
        (view(window="-7d"), "no window"),
        (view(window="36501d"), "no length of time"),
        (view(window="999999999999w"), "no length of time"),
        (view(window="last 0"), "last 1 to"),
        (view(window="last 100001"), "last 1 to"),
        (view(window="1 x 7d"), "buckets"),
        (view(window="61 x 7d"), "buckets"),
        (view(window="60 x 36500d"), "buckets"),
        (view("trend", window="all", against="all"), "takes no window"),
        (view("recency", settings=[]), "no object"),
        (view(settings={"k": 3}), "no setting 'k'"),
        (view(settings={"k": None}), "setting 'k' is"),
        (view(settings={"k": math.nan}), "setting 'k' is"),
        (view(settings={"k": {"deep": 1}}), "setting 'k' is"),
        (view("last_values"), "needs the setting k"),
        (view("last_values", settings={"k": 1}), "no whole number from 2 to 50"),
        (view("last_values", settings={"k": 51}), "no whole number from 2 to 50"),
        (view("last_values", settings={"k": True}), "no whole number"),
        (view("last_values", settings={"k": 2.5}), "no whole number"),
        (view("last_values", window="4 x 7d", settings={"k": 2}), "takes no window"),
        (view("top_keys", window="4 x 7d"), "takes no buckets"),
        (view("top_keys", settings={"k": 10**30}), "no whole number"),
        (view("decayed_sum", settings={"half_life": "0s"}), "no length of time"),
        (view("decayed_sum", settings={"half_life": 30}), "no length of time"),
        (view("bands", settings={"edges": []}), "no rising numbers"),
        (view("bands", settings={"edges": [2, 1]}), "no rising numbers"),
        (view("bands", settings={"edges": [1, "x"]}), "no rising numbers"),
        (view("bands", settings={"edges": [1, 10**400]}), "no rising numbers"),
        (view("clock_share", settings={"in": [24]}), "is no hour"),
        (view("clock_share", of="month", settings={"in": ["easter"]}), "is no month"),
        (view("clock_share", of="weekday", settings={"in": [1, 2, 3, 4, 5, 6, 7]}), "none or every"),
        (funnel(["view"]), "2 to 8 kinds"),
        (funnel(["view"] * 9), "2 to 8 kinds"),
        (funnel("view"), "2 to 8 kinds"),
        (funnel(["view", "cart"], step=3), "step 3 of 2"),
        (funnel(["view", "cart"]) | {"kinds": ["view"]}, "as the setting steps"),
        (funnel(["view", "cart"]) | {"where": {"value": {"min": 1}}}, "takes no where"),
        (view("sum_per", settings={"per": "value"}), "no key 'value'"),
        (view("sum_per", settings={"per": 3}), "no column"),
        (view(where={}), "no condition"),
        (view(where={"value": {}}), "no condition"),
        (view(where={"value": {"min": 1, "max": 2}}), "no condition"),
        (view(where={"value": {"min": 2, "below": 2}}), "at least 2.0 and below 2.0"),
        (view(where={"value": {"min": math.inf}}), "not a finite number"),
        (view(where={"value": {"min": 10**400}}), "not a finite number"),
        (view(where={"value": math.nan}), "no condition"),
        (view(where={"value": "ten"}), "is a number"),
        (view(where={"nothing": 1}), "cannot ask for"),
        (view(where={"order": "o1"}), "cannot ask for"),
        (view(where={"query": "red"}), "cannot ask for"),
        (view(where={"item": "x"}), "cannot equal"),
        (view(where={"item": 1 << 63}), "no condition"),
        (view(where={"channel": 5}), "cannot equal"),
        (view(where={"channel": {"min": 1}}), "is no number"),
        (view(where={"hour": 24}), "no hour 24"),
        (view(where={"weekday": 0}), "no weekday 0"),
        (view(where={"value": 1, "quantity": 2}), "two conditions of one sort"),
        (view(where={"value": 1, "quantity": 2, "item": 3}), "no condition"),
        (view(where={"value": 1}, settings={"where": {"value": 1}}), "stands twice"),
        (view(against="90d"), "takes no against"),
        (view("trend", window="30d"), "needs a window longer"),
        (view("trend", window="30d", against="7d"), "needs a window longer"),
        (view("trend", window="30d", against="all"), "has no rate"),
        (view("share"), "needs kinds as against"),
        (view("share", against="7d"), "held against kinds"),
        (view("dwell_mean", settings={"until": 3}), "event kinds"),
        (view(name="a" * 62, window="4 x 7d"), "would have 64 letters"),
    ],
)
def test_refusals(definition: Any, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        made(definition)
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300
    assert caught.value.hint


def test_sets_that_are_too_large() -> None:
    with pytest.raises(BadInput, match="event kinds, more than"):
        made(*(view(name=f"f{n}", kinds=[f"k{n}"]) for n in range(40)))
    with pytest.raises(BadInput, match="table of PostgreSQL"):
        made(*(view("last_values", name=f"f{n}", settings={"k": 50}, window=f"{n + 1}d") for n in range(40)))
    with pytest.raises(BadInput, match="two features are called 'f_1'"):
        made(view(name="f_1"), view(name="f", window="2 x 7d"))


SIMPLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.integers(0, 60),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["view", "7d", "36h", "all", "last 3", "2 x 1d", "value", "item", "order", "hour", "sat", "channel"]
    ),
)
ANYTHING = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["min", "below", "value", "item", "hour", "channel", "x"]), inner, max_size=3),
    ),
    max_leaves=6,
)
KEYS = sorted({key for rule in RULES.values() for key in rule.settings} | {"where", "against", "x"})
WIDTH = st.sampled_from(["1s", "30m", "36h", "7d", "30d", "all", "last 3", "3 x 2d"])
SENSIBLE = st.fixed_dictionaries(
    {"name": st.just("f"), "aggregate": st.sampled_from([*RULES])},
    optional={
        "kinds": st.lists(st.sampled_from(["view", "cart", "buy"]), min_size=1, max_size=3, unique=True),
        "of": st.sampled_from(["value", "quantity", "item", "order", "hour", "day", "month", "channel", "query"]),
        "window": WIDTH,
        "where": st.dictionaries(st.sampled_from(["value", "item", "channel", "hour"]), ANYTHING, max_size=2),
        "against": st.one_of(WIDTH, st.just(["cart"])),
        "settings": st.fixed_dictionaries(
            {},
            optional={
                "half_life": WIDTH,
                "timeout": WIDTH,
                "bound": WIDTH,
                "k": st.integers(-1, 60),
                "buckets": st.integers(0, 70),
                "steps": st.lists(st.sampled_from(["view", "cart"]), max_size=9),
                "step": st.integers(0, 9),
                "per": st.sampled_from(["order", "item", "value"]),
                "in": st.lists(st.integers(0, 24), max_size=4),
                "edges": st.lists(st.floats(-5, 5), max_size=4),
                "until": st.just(["cart"]),
            },
        ),
    },
)
WILD = st.one_of(
    ANYTHING,
    st.dictionaries(st.sampled_from(["name", "aggregate", "kinds", "of", "window", "where", "settings"]), ANYTHING),
    st.builds(
        lambda base, key, value: base | {"settings": base.get("settings", {}) | {key: value}},
        SENSIBLE,
        st.sampled_from(KEYS),
        ANYTHING,
    ),
    st.builds(
        lambda base, key, value: base | {key: value},
        SENSIBLE,
        st.sampled_from(["name", "aggregate", "kinds", "of", "window", "where", "against", "settings"]),
        ANYTHING,
    ),
    SENSIBLE,
)


@given(WILD)
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_compiles_or_is_refused(definition: Any) -> None:
    refusal = found = None
    try:
        found = made(definition)
    except BadInput as error:
        refusal = error
    if found is None:
        assert refusal is not None
        assert "\n" not in refusal.message
        return
    again = made(*(json.loads(json.dumps(spec.to_json())) for spec in found.specs))
    assert again.hash == found.hash
    assert all(len(f.name) <= 63 and f.meaning and f.unit for f in found.features)


def test_a_condition_on_a_column_that_is_missing_says_how_to_declare_it() -> None:
    for where, told in (({"nothing": {"min": 0.2}}, True), ({"order": "o1"}, False)):
        with pytest.raises(BadInput) as caught:
            made(view(where=where))
        assert ("ubp.define_event_column declares another" in str(caught.value.hint)) is told
