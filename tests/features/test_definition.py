"""What a feature set holds, how it is named, and what it refuses."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ubp_sql.errors import BadInput
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.families import chain
from ubp_sql.features.names import slug
from ubp_sql.features.spec import FeatureSpec

DEFAULT = FeatureSetDefinition(("purchase", "cancel"))


def test_the_default_set_is_pinned() -> None:
    """Models are pinned to this hash. It may only change together with SEMANTICS_VERSION or the set itself."""
    assert DEFAULT.hash == "269e54779f5e1d150a3d4cc69f41e0e8ce9585e8326e43fa8eb7a072466f2161"


def test_the_names_of_the_default_set_are_pinned() -> None:
    """Trained pipelines ask for these names in this order."""
    golden = Path(__file__).parents[1] / "golden" / "standard_features.txt"
    names = [feature.name for feature in DEFAULT.features]
    assert len(names) == 141
    assert names == golden.read_text().split()


def test_the_hash_follows_what_values_depend_on() -> None:
    sets = [
        DEFAULT,
        FeatureSetDefinition(("cancel", "purchase")),
        FeatureSetDefinition(("purchase",)),
        FeatureSetDefinition(("Purchase", "cancel")),
        FeatureSetDefinition(("purchase", "cancel"), (7, 14, 30, 60, 90)),
    ]
    assert len({definition.hash for definition in sets}) == len(sets)
    shuffled = FeatureSetDefinition(("purchase", "cancel"), (180, 7, 90, 14, 60, 30))
    assert (shuffled, shuffled.hash) == (DEFAULT, DEFAULT.hash)


def test_every_family_has_several_windows() -> None:
    by_family: dict[str, set[str]] = {}
    for feature in DEFAULT.features:
        by_family.setdefault(feature.family, set()).add(feature.spec.window.text)
    without_window = {"recency", "tenure", "gap_last", "overdue"}
    assert {family for family, windows in by_family.items() if len(windows) < 3} == without_window


def test_names_follow_the_style() -> None:
    names = {feature.name for feature in DEFAULT.features}
    assert names >= {
        "count_purchase_7d",
        "orders_purchase_30d",
        "sum_value_purchase_30d",
        "mean_value_cancel_all",
        "distinct_items_purchase_30d",
        "distinct_days_purchase_30d",
        "days_since_purchase",
        "tenure_days_cancel",
        "trend_orders_purchase_30d_90d",
        "share_cancel_in_purchase_90d",
        "mean_gap_purchase_all",
        "overdue_ratio_purchase",
        "hour_sin_purchase_180d",
    }


@pytest.mark.parametrize(
    ("windows", "links"),
    [
        ((7, 14, 30, 60, 90, 180), (7, 30, 90, 180)),
        ((1,), (1,)),
        ((30, 31), (30, 31)),
        ((1, 2, 3, 9), (1, 3, 9)),
        ((7, 30, 365), (7, 30, 365)),
    ],
)
def test_chain(windows: tuple[int, ...], links: tuple[int, ...]) -> None:
    assert tuple(windows[w] for w in chain(windows)) == links


def test_every_feature_explains_itself() -> None:
    for position, feature in enumerate(DEFAULT.features):
        assert feature.position == position
        assert re.fullmatch(r"[A-Z][^{}]*\.", feature.meaning.replace(": above", " above")), feature.meaning
        assert feature.unit
        assert feature.null_rule.startswith(("NULL", "never NULL", "0 without"))
        assert feature.sql_type == ("integer" if feature.null_rule.startswith("never NULL") else "real")
        assert feature.edge_rule
        assert feature.cost
    assert DEFAULT.plan.formulas.shape[0] == len(DEFAULT.features)


def test_one_pass_shares_what_features_have_in_common() -> None:
    """Count, sum and mean of a kind over all windows are two operations over one stream of events."""
    names = {"count": None, "sum": "value", "mean": "value"}
    specs = [
        FeatureSpec.from_parts(f"{name}_{days}", name, ["view"], of, f"{days}d")
        for days in (7, 30, 90)
        for name, of in names.items()
    ]
    plan = FeatureSetDefinition((), (), tuple(specs)).plan
    assert (len(plan.formulas), len(plan.ops), len(plan.streams), len(plan.links)) == (9, 2, 1, 0)


def test_a_set_grows_and_its_beginning_keeps_its_hash() -> None:
    first = FeatureSpec.from_parts("a", "count", ["view"], None, "7d")
    second = FeatureSpec.from_parts("b", "sum", ["cart"], "value", "36h")
    small = FeatureSetDefinition((), (), (first,))
    grown = small.grown([second, first])
    assert [f.name for f in grown.features] == ["a", "b"]
    assert grown.kinds == ("view", "cart")
    assert grown.hash != small.hash
    assert FeatureSetDefinition((), (), grown.specs[:1]).hash == small.hash
    assert grown.grown([first, second]) is grown
    assert FeatureSetDefinition.from_json(grown.to_json()) == grown
    more = DEFAULT.grown([first])
    assert more.kinds == ("purchase", "cancel", "view")
    assert [f.name for f in more.features[:141]] == [f.name for f in DEFAULT.features]
    assert FeatureSetDefinition.from_json(more.to_json()).hash == more.hash
    with pytest.raises(BadInput, match="another definition"):
        more.grown([FeatureSpec.from_parts("a", "count", ["view"], None, "8d")])


def test_equal_meaning_is_equal_spelling() -> None:
    """Two ways of writing a definition make one feature."""
    one = FeatureSpec.from_parts("f", "decayed_sum", ["view"], None, "all", {"half_life": "168h"})
    other = FeatureSpec.from_parts("f", "decayed_sum", "view", "value", None, {"half_life": "1w"})
    assert FeatureSetDefinition((), (), (one,)).hash == FeatureSetDefinition((), (), (other,)).hash
    share = {"in": ["Sat", 7], "where": {"value": {"min": 1}}}
    again = {"in": [6, "sunday"], "where": {"value": {"min": 1.0}}}
    made = [FeatureSpec.from_parts("f", "clock_share", ["view"], "weekday", "7d", s) for s in (share, again)]
    assert len({FeatureSetDefinition((), (), (spec,)).hash for spec in made}) == 1


KINDS = st.lists(st.text(max_size=40), min_size=1, max_size=4).map(tuple)


@given(KINDS, st.lists(st.integers(1, 36_500), min_size=1, max_size=5, unique=True).map(tuple))
@settings(deadline=None)
def test_any_kind_gives_good_names_or_a_clear_refusal(kinds: tuple[str, ...], windows: tuple[int, ...]) -> None:
    refusal = None
    try:
        definition = FeatureSetDefinition(kinds, windows)
    except BadInput as error:
        refusal = error
    if refusal is not None:
        assert "\n" not in refusal.message
        return
    names = [feature.name for feature in definition.features]
    assert all(re.fullmatch(r"[a-z][a-z0-9_]{1,62}", name) for name in names)
    assert len(set(names)) == len(names)
    assert FeatureSetDefinition.from_json(definition.to_json()) == definition


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("purchase", "purchase"),
        ("Add to  Cart!", "add_to_cart"),
        ("Ajouté-au-Panier", "ajoute_au_panier"),
        ("購入", "u8cfcu5165"),
        ("🛒", "u1f6d2"),
        ("__x__", "x"),
        ("2nd", "2nd"),
        ("a" * 23, "a" * 23),
        ("subscription_cancellation", "subscription_can_e7c875"),
    ],
)
def test_slug(kind: str, expected: str) -> None:
    assert slug(kind) == expected


@pytest.mark.parametrize(
    ("kinds", "windows", "words"),
    [
        ((), (7,), "1 to 31 event kinds"),
        ("purchase", (7,), "1 to 31 event kinds"),
        (tuple(f"k{i}" for i in range(32)), (7,), "1 to 31 event kinds"),
        (("",), (7,), "no letter or digit"),
        ((" - ",), (7,), "no letter or digit"),
        (("a\0b",), (7,), "control character"),
        (("\ud800",), (7,), "control character"),
        (("All",), (7,), "reserved"),
        ((3,), (7,), "not text"),
        (("x" * 201,), (7,), "longer than 200"),
        (("a", "a"), (7,), "comes twice"),
        (("a b", "a-b"), (7,), "same column name a_b"),
        (("a",), (), "1 to 31 windows"),
        (("a",), tuple(range(1, 33)), "1 to 31 windows"),
        (("a",), (0,), "window of 0 days"),
        (("a",), (-7,), "window of -7 days"),
        (("a",), (36_501,), "window of 36501 days"),
        (("a",), (7.0,), "window of 7.0 days"),
        (("a",), (True,), "window of True days"),
        (("a",), (7, 7), "window comes twice"),
        (tuple(f"k{i}" for i in range(16)), tuple(range(1, 25)), "table of PostgreSQL"),
    ],
)
def test_refusals(kinds: tuple[str, ...], windows: tuple[int, ...], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        FeatureSetDefinition(kinds, windows)


def test_the_longest_name_fits_an_identifier() -> None:
    definition = FeatureSetDefinition(("a" * 99, "b" * 99), (12_000, 36_500))
    assert max(len(feature.name) for feature in definition.features) == 63


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        "[" * 100_000,
        DEFAULT.to_json().replace('"kinds"', '"kind"'),
        json.dumps(json.loads(DEFAULT.to_json()) | {"more": 1}),
        json.dumps(json.loads(DEFAULT.to_json()) | {"kinds": "purchase"}),
        json.dumps(json.loads(DEFAULT.to_json()) | {"kinds": ["purchase"]}),
        json.dumps(json.loads(DEFAULT.to_json()) | {"windows_days": ["7"]}),
        json.dumps(json.loads(DEFAULT.to_json()) | {"semantics": 0}),
        json.dumps(json.loads(DEFAULT.to_json()) | {"hash": "0" * 64}),
        json.dumps(json.loads(DEFAULT.to_json()) | {"features": [3]}),
        json.dumps(json.loads(DEFAULT.to_json()) | {"columns": [{"name": "x"}]}),
    ],
)
def test_from_json_is_strict(text: str) -> None:
    with pytest.raises(BadInput):
        FeatureSetDefinition.from_json(text)


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import ubp_sql.features.definition, ubp_sql.features.compute", "numba"),
        (
            "from ubp_sql.features.definition import FeatureSetDefinition as D; D(('view',)).features[3].meaning",
            "numpy",
        ),
    ],
)
def test_a_definition_is_light(code: str, heavy: str) -> None:
    """A session that scores stored rows asks for names: that must not cost it an import."""
    argv = [sys.executable, "-c", f"import sys; {code}; sys.exit({heavy!r} in sys.modules)"]
    assert subprocess.run(argv, check=False).returncode == 0
