"""Label rules as people write them: read, written back, refused in one line."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ubp_sql.errors import BadInput
from ubp_sql.features.columns import Declared, types_of
from ubp_sql.features.label_rule import FORMS, LabelRule

TYPES = types_of((Declared("colour", "colour", "text"), Declared("price", "price", "number", "item")))
GOOD: list[tuple[dict[str, Any], str, str]] = [
    ({"any": "purchase"}, "chance", "an event of kind purchase within the horizon"),
    (
        {"none": ["buy", "view"], "from": "7d"},
        "chance",
        "no event of kind buy or view within the horizon that begins 7d later",
    ),
    ({"count": "buy"}, "amount", "number of events of kind buy within the horizon"),
    (
        {"sum": "value", "kinds": ["buy"], "where": {"price": {"min": 3}, "colour": "red"}},
        "amount",
        "sum of value over events of kind buy where colour is red and price is at least 3 within the horizon",
    ),
    (
        {"days_until": "buy"},
        "amount",
        "days until the next event of kind buy within the horizon, at most the end of that time",
    ),
    ({"table": "shop.ended", "user": "u", "time": "t"}, "chance", "a row of shop.ended with t within the horizon"),
    (
        {"table": '"My Shop".Ended', "user": "u", "time": "t", "value": "v", "from": "12h"},
        "amount",
        "sum of v over rows of My Shop.ended with t within the horizon that begins 12h later",
    ),
]  # fmt: skip
BAD: list[tuple[Any, str]] = [
    (None, "is no rule"),
    ([], "is no rule"),
    ({}, "says none of any, none"),
    ({"any": "a", "count": "b"}, "says any and count of"),
    ({"any": "a", "kinds": ["b"]}, "any takes no 'kinds'"),
    ({"any": None}, "any needs kinds"),
    ({"any": []}, "are not 1 to 16 event kinds"),
    ({"any": ["a", "a"]}, "a kind comes twice"),
    ({"any": [7]}, "is not text"),
    ({"sum": "value"}, "sum needs kinds"),
    ({"sum": None, "kinds": "a"}, "sum needs a column"),
    ({"sum": "item", "kinds": "a"}, "takes no column 'item'"),
    ({"sum": "nothing", "kinds": "a"}, "there is no event column 'nothing'"),
    ({"any": "a", "where": {"value": {"min": 9, "below": 1}}}, "no value is at least"),
    ({"any": "a", "where": {"order": "x"}}, "where cannot ask for column 'order'"),
    ({"any": "a", "where": 7}, "is no condition on one or two columns"),
    ({"any": "a", "from": "-7d"}, "begins before the cut"),
    ({"any": "a", "from": -1}, "begins before the cut"),
    ({"any": "a", "from": "soon"}, "is no length of time"),
    ({"any": "a", "from": 7}, "is no length of time"),
    ({"any": "a", "from": True}, "is no length of time"),
    ({"any": "a", "from": "99999d"}, "is no length of time"),
    ({"table": "ended", "user": "u", "time": "t"}, "names no table"),
    ({"table": "a.b.c", "user": "u", "time": "t"}, "names no table"),
    ({"table": "a.b; drop table c", "user": "u", "time": "t"}, "names no table"),
    ({"table": "a.b", "time": "t"}, "needs the column 'user'"),
    ({"table": "a.b", "user": "u"}, "needs the column 'time'"),
    ({"table": "a.b", "user": 7, "time": "t"}, "user 7 is no name"),
    ({"table": 7, "user": "u", "time": "t"}, "table 7 is no name"),
    ({"table": "a.b", "user": "u", "time": "t", "where": {"value": 7}}, "table takes no 'where'"),
    ({"table": "a.b", "user": "u", "time": "t", "types": [1]}, "the server writes them"),
]


@pytest.mark.parametrize(("found", "output", "words"), GOOD)
def test_what_a_rule_says(found: dict[str, Any], output: str, words: str) -> None:
    rule = LabelRule.from_json(found).checked(TYPES)
    assert (rule.output, rule.words) == (output, words)
    assert LabelRule.from_json(json.loads(rule.text)).checked(TYPES) == rule


@pytest.mark.parametrize("zero", [None, 0, "0", "0d", "00 h"])
def test_no_gap(zero: Any) -> None:
    assert LabelRule.from_json({"any": "a", "from": zero}) == LabelRule.of_kind("a")


@pytest.mark.parametrize(("found", "why"), BAD)
def test_what_is_no_rule(found: Any, why: str) -> None:
    with pytest.raises(BadInput) as caught:
        LabelRule.from_json(found).checked(TYPES)
    assert why in caught.value.message
    assert "\n" not in caught.value.message
    assert "feature '" not in caught.value.message
    assert caught.value.hint


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
WORDS = st.sampled_from(
    [*FORMS, "where", "from", "kinds", "user", "time", "value", "known_at", "types", "min", "below"]
)
ANYTHING = st.recursive(
    LEAVES | st.sampled_from(["purchase", "7d", "value", "a.b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(found=ANYTHING | st.dictionaries(WORDS, ANYTHING, max_size=5))
@settings(max_examples=300)
def test_anything_else_is_refused_in_a_line(found: Any) -> None:
    rule = None
    with suppress(BadInput):  # and nothing else
        rule = LabelRule.from_json(found).checked(TYPES)
    if rule is not None:
        assert LabelRule.from_json(json.loads(rule.text)).checked(TYPES) == rule
        assert rule.from_us >= 0
