"""Hints of mistyped names say what may have been meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ubp_sql.errors import BadInput
from ubp_sql.features.aggregates import RULES
from ubp_sql.features.columns import CLOCK
from ubp_sql.features.compile import checked_spec
from ubp_sql.features.spec import FeatureSpec
from ubp_sql.features.suggest import ELSEWHERE, meant


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("coutn", "'count'"),
        (" Count ", "'count'"),
        ("avg", "'mean'"),
        ("distinct_count", "'distinct'"),
        ("last_valeus", "'last_values' or 'last_key'"),
    ],
)
def test_what_was_meant(word: str, found: str) -> None:
    assert meant(word, RULES) == f"did you mean {found}?"


def test_every_other_name_is_one_of_ours() -> None:
    assert set(ELSEWHERE.values()) <= set(RULES)
    assert not set(ELSEWHERE) & set(RULES)


@given(st.text() | st.none() | st.integers())
def test_any_word(word: object) -> None:
    said = meant(word, RULES)
    assert said == "" or said.startswith("did you mean '")


def test_an_unlike_name_gets_the_whole_list() -> None:
    assert meant("qqq", RULES) == meant("", RULES) == meant("avg", ["view"]) == ""
    for word, hint in (
        ("coutn", "did you mean 'count'? docs/features.md has all"),
        ("qqq", f"one of {', '.join(RULES)}"),
    ):
        with pytest.raises(BadInput, match=f"unknown aggregate '{word}'") as caught:
            checked_spec(FeatureSpec("f", word, ("view",)), dict.fromkeys(CLOCK, "clock"))
        assert str(caught.value.hint).startswith(hint)
