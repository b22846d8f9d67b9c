"""What a feature set holds, how it is named, and what it refuses."""

import json
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ubp_sql.errors import BadInput
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.families import chain
from ubp_sql.features.names import slug

DEFAULT = FeatureSetDefinition(("purchase", "cancel"))


def test_the_default_set_is_pinned() -> None:
    """Models are pinned to this hash. It may only change together with SEMANTICS_VERSION or the set itself."""
    assert len(DEFAULT.features) == 141
    assert DEFAULT.hash == "e9ce6537f015700ac9ff769b4cd0967c68e4fba38a4a5892c40d3681181dad38"


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
    by_family: dict[str, set[int | None]] = {}
    for feature in DEFAULT.features:
        by_family.setdefault(feature.family, set()).add(feature.window_days)
    without_window = {"days_since", "tenure_days", "last_gap", "overdue_ratio"}
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
        assert len(feature.opcode) == 8


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
        ((), (7,), "1 to 16 event kinds"),
        ("purchase", (7,), "1 to 16 event kinds"),
        (tuple(f"k{i}" for i in range(17)), (7,), "1 to 16 event kinds"),
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
    ],
)
def test_from_json_is_strict(text: str) -> None:
    with pytest.raises(BadInput):
        FeatureSetDefinition.from_json(text)


def test_a_definition_does_not_import_numba() -> None:
    code = "import sys, ubp_sql.features.definition, ubp_sql.features.compute; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
