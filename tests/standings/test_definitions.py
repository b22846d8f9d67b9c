"""What can be defined, what is refused, and that the rules know which of them age."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.helpers import Connection, refused
from tests.features.spec_cases import COLUMNS, cases
from tests.fix_database import Database
from ubp_sql.errors import BadInput
from ubp_sql.features.aggregates import RULES
from ubp_sql.features.columns import Declared
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.spec import FeatureSpec
from ubp_sql.features.standing import FAMILIES
from ubp_sql.kernels.dispatch import AGEING, FormulaColumn

VIEWS = {"name": "views", "aggregate": "count", "kinds": ["view"]}
RANK = {"name": "rank", "aggregate": "percentile", "of": "views"}
POPULAR = {"name": "popular", "aggregate": "item_popularity", "kinds": ["view"], "window": "7d"}


def made(*specs: dict[str, Any]) -> FeatureSetDefinition:
    return FeatureSetDefinition((), (), tuple(map(FeatureSpec.from_mapping, specs)))


def test_the_rules_know_what_ages_and_what_speaks_of_all_users() -> None:
    """A rule says it without the plan, which needs NumPy."""
    declared = tuple(Declared(*column) for column in COLUMNS)
    of = FeatureSetDefinition((), (), tuple(map(FeatureSpec.from_mapping, cases())), declared)
    ageing = {
        feature.family
        for feature, row in zip(of.features, of.plan.formulas, strict=True)
        if row[FormulaColumn.CODE] in AGEING
    }
    assert ageing == {name for name, rule in RULES.items() if rule.ages}
    assert {name for name, rule in RULES.items() if rule.standing} == set(FAMILIES)


WRONG: list[tuple[list[dict[str, Any]], str]] = [
    ([VIEWS, {**RANK, "of": "vews"}], "no feature 'vews' before it"),
    ([RANK, VIEWS], "no feature 'views' before it"),
    ([VIEWS, {**RANK, "of": "rank"}], "no feature 'rank' before it"),
    ([VIEWS, {**RANK, "of": "value"}], "no feature 'value' before it"),
    ([VIEWS, {**RANK, "of": None}], "needs an earlier feature"),
    ([VIEWS, {**RANK, "kinds": ["view"]}], "takes its kinds from the feature"),
    ([VIEWS, {**RANK, "window": "7d"}], "takes no window '7d'"),
    ([VIEWS, {**RANK, "where": {"item": 3}}], "takes no where"),
    ([VIEWS, {**RANK, "against": "90d"}], "takes no against"),
    ([VIEWS, {**RANK, "settings": {"k": 3}}], "has no setting 'k'"),
    ([VIEWS, RANK, {**RANK, "name": "again", "of": "rank"}], "'rank' (percentile) speaks of all users"),
    ([POPULAR, {**RANK, "of": "popular"}], "'popular' (item_popularity) speaks of all users"),
    (
        [{"name": "views", "aggregate": "recency", "kinds": ["view"]}, RANK],
        "'views' (recency) changes with the moment alone",
    ),
    (
        [{**VIEWS, "aggregate": "decayed_count", "settings": {"half_life": "7d"}}, RANK],
        "(decayed_count) changes with the moment alone",
    ),
    ([{**VIEWS, "window": "3 x 7d"}, RANK], "no feature 'views' before it"),
    ([{**POPULAR, "window": "all"}], "takes no window 'all'"),
    ([{**POPULAR, "window": "last 3"}], "takes no window 'last 3'"),
    ([{**POPULAR, "window": "4 x 7d"}], "takes no window"),
    ([{**POPULAR, "of": "item"}], "takes no column (of)"),
    ([{**POPULAR, "kinds": None}], "needs kinds"),
    ([{**POPULAR, "where": {"value": {"min": 1}}}], "takes no where"),
]


@pytest.mark.parametrize(("specs", "words"), WRONG)
def test_bad_definitions(specs: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(BadInput) as caught:
        made(*({k: v for k, v in spec.items() if v is not None} for spec in specs))
    assert words in str(caught.value)
    assert caught.value.hint


word = st.one_of(
    st.sampled_from(["views", "rank", "popular", "7d", "all", "view", "percentile", "item", "", "x" * 70, "views_1"]),
    st.text(max_size=8),
    st.integers(),
    st.none(),
    st.lists(st.sampled_from(["view", "", "buy"]), max_size=2),
)


@given(
    st.sampled_from(FAMILIES),
    st.dictionaries(st.sampled_from(["of", "kinds", "window", "where", "against", "settings"]), word),
)
@settings(deadline=None, max_examples=300)
def test_anything_else_is_right_or_refused_in_a_line(aggregate: str, rest: dict[str, Any]) -> None:
    try:
        of = made(VIEWS, {"name": "odd", "aggregate": aggregate, **rest})
    except BadInput as error:
        said = str(error)
    else:
        said = ""
        assert FeatureSetDefinition.from_json(of.to_json()) == of
        assert [feature.name for feature in of.standings] == ["odd"]
    assert "\n" not in said


def test_a_set_grows_by_them_and_keeps_its_beginning() -> None:
    of = made(VIEWS)
    grown = of.grown(map(FeatureSpec.from_mapping, [RANK, POPULAR]))
    assert grown == made(VIEWS, RANK, POPULAR)
    assert grown.grown([FeatureSpec.from_mapping(RANK)]) is grown
    assert [f.kind for f in grown.features] == ["view", "", "view"]
    with pytest.raises(BadInput, match="another definition"):
        grown.grown([FeatureSpec.from_mapping({**POPULAR, "name": "rank"})])


def test_of_a_column_of_several() -> None:
    weeks = {**VIEWS, "window": "3 x 7d"}
    of = made(weeks, {**RANK, "of": "views_2"})
    assert of.plan.formulas[3].tolist() == of.plan.formulas[1].tolist()


def test_through_sql_and_a_file(db: Database) -> None:
    with db.connect() as conn:
        conn.execute("select ubp.define_feature('views', 'count', array['view'])")
        assert defined(conn, "rank", "percentile", "of => 'views'") == 2
        assert defined(conn, "popular", "item_popularity", "kinds => array['view'], \"window\" => '7d'") == 3
        error = refused(conn, "UB003", "select ubp.define_feature('other', 'percentile', of => 'vews')")
        assert "did you mean 'views'?" in str(error.diag.message_hint)
        refused(conn, "UB003", "select ubp.define_feature('other', 'percentile', of => 'rank')")
        entries = conn.execute(
            "select ubp.define_features(%s, 'second')", [json.dumps([VIEWS, RANK, POPULAR])]
        ).fetchone()
        assert entries == (3,)
        shown = conn.execute(
            "select unit, sql_type, null_rule from ubp.feature_catalogue where feature_set = 'second' order by position"
        ).fetchall()
        assert [row[:2] for row in shown] == [("events", "integer"), ("0..100", "real"), ("events", "integer")]
        assert all(row[2].startswith("NULL") for row in shown[1:])


def defined(conn: Connection, name: str, aggregate: str, rest: str) -> int:
    row = conn.execute(f"select ubp.define_feature('{name}', '{aggregate}', {rest})").fetchone()
    assert row is not None
    return int(row[0])
