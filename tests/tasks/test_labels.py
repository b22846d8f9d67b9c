"""Labels of every form against plain SQL over all events: attached ones, linked users, four clocks, NaN and ties."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.helpers import LAST, ODD_KINDS, Connection
from tests.tasks.conftest import ATTACHED
from tests.tasks.labels import defined, wanted
from tests.tasks.labels import given as labels_of

KIND, OTHER, THIRD = ODD_KINDS[:3]
CUTS = [
    datetime(2023, 10, 29, 1, tzinfo=UTC),
    datetime(2024, 1, 10, 17, 30, 1, 7, tzinfo=UTC),
    datetime(2024, 3, 1, tzinfo=UTC),
]
HORIZON = timedelta(days=20)
RULES: list[tuple[dict[str, Any], timedelta]] = [
    ({"any": KIND}, timedelta(0)),
    ({"any": [OTHER, ATTACHED], "from": "36h"}, timedelta(hours=36)),
    ({"none": [KIND, ATTACHED]}, timedelta(0)),
    ({"count": [OTHER, THIRD, ATTACHED]}, timedelta(0)),
    ({"count": [OTHER, THIRD], "where": {"value": {"min": -3.5, "below": 50}}}, timedelta(0)),
    ({"count": list(ODD_KINDS), "where": {"value": 0}}, timedelta(0)),
    ({"sum": "value", "kinds": [ATTACHED]}, timedelta(0)),
    ({"sum": "value", "kinds": [KIND, OTHER, ATTACHED], "where": {"value": {"below": 100}}}, timedelta(0)),
    ({"sum": "value", "kinds": list(ODD_KINDS), "from": "3d", "where": {"item": 3}}, timedelta(days=3)),
    ({"count": [KIND, THIRD], "where": {"order_text": "o3-2"}}, timedelta(0)),
    ({"count": [KIND, OTHER, ATTACHED], "where": {"hour": 5}}, timedelta(0)),
    ({"count": list(ODD_KINDS), "where": {"weekday": 7, "value": {"min": 1}}}, timedelta(0)),
    ({"count": list(ODD_KINDS), "where": {"month": 1}}, timedelta(0)),
    ({"count": list(ODD_KINDS), "where": {"holiday": 1}}, timedelta(0)),
    ({"days_until": [OTHER, ATTACHED]}, timedelta(0)),
    ({"days_until": [THIRD], "from": "2d"}, timedelta(days=2)),
]


def agree(conn: Connection, rule: dict[str, Any], gap: timedelta, cuts: list[datetime] | None,
          horizon: timedelta = HORIZON, population: str = KIND) -> set[float]:  # fmt: skip
    """The labels that there are, equal to the oracle's."""
    with conn.transaction(force_rollback=True):
        defined(conn, rule, horizon, population)
        found = labels_of(conn, cuts)
        want = wanted(conn, rule, horizon, gap, at_events=cuts is None)
    assert found.keys() == want.keys()
    assert list(found.values()) == pytest.approx([want[key] for key in found], rel=1e-12, abs=1e-12)
    return set(found.values())


@pytest.mark.parametrize("cuts", [CUTS, None], ids=["cuts", "every event"])
@pytest.mark.parametrize(("rule", "gap"), RULES, ids=[str(rule)[:40] for rule, _ in RULES])
def test_labels_are_what_sql_says(
    odd: Connection, rule: dict[str, Any], gap: timedelta, cuts: list[datetime] | None
) -> None:
    assert len(agree(odd, rule, gap, cuts)) > 1


def test_columns_that_no_feature_reads(odd: Connection) -> None:
    """A set of one count reads neither values nor keys nor clocks; the label does."""
    for where in ({"hour": 5}, {"holiday": 1}, {"item": 3, "value": {"min": 1}}):
        rule = {"count": list(ODD_KINDS), "where": where}
        with odd.transaction(force_rollback=True):
            defined(odd, rule, HORIZON, KIND, "plain")
            found = labels_of(odd, None)
            assert found == wanted(odd, rule, HORIZON, timedelta(0), at_events=True)
        assert len(set(found.values())) > 1


def test_the_mirror_changes_nothing(odd: Connection) -> None:
    for rule, gap in RULES[6:9]:
        with odd.transaction(force_rollback=True):
            odd.execute("select ubp.build_mirror()")
            agree(odd, rule, gap, CUTS)


def test_features_do_not_see_what_only_the_label_looks_at(odd: Connection) -> None:
    """Kinds and columns of the label, beside the set's own, leave the features' bits as they are."""
    rows = "select user_id, cut, features from ubp.training_probe order by 1, 2"
    found = []
    for rule in ({"any": KIND}, {"sum": "value", "kinds": [OTHER, THIRD], "where": {"order_text": "o3-2"}}):
        with odd.transaction(force_rollback=True):
            defined(odd, rule, HORIZON, KIND)
            labels_of(odd, CUTS)
            found.append(odd.execute(rows.encode(), binary=True).fetchall())
    assert found[0]
    assert str(found[0]) == str(found[1])


KINDS = st.lists(st.sampled_from([*ODD_KINDS, ATTACHED]), min_size=1, max_size=3, unique=True)
NUMBERS = st.fixed_dictionaries({}, optional={"min": st.integers(-5, 30), "below": st.integers(31, 90)}).filter(bool)
KEYS = st.sampled_from([("item", 2), ("hour", 7), ("weekday", 3), ("month", 2), ("order_text", "o1-1"), ("holiday", 0)])


@st.composite
def rules(draw: st.DrawFn) -> tuple[dict[str, Any], timedelta]:
    form = draw(st.sampled_from(["any", "none", "count", "sum", "days_until"]))
    kinds = draw(KINDS)
    rule: dict[str, Any] = {"sum": "value", "kinds": kinds} if form == "sum" else {form: kinds}
    where: dict[str, Any] = {"value": draw(NUMBERS)} if draw(st.booleans()) else {}
    where |= dict([draw(KEYS)]) if draw(st.booleans()) else {}
    gap = draw(st.integers(0, 72))
    return rule | ({"where": where} if where else {}) | ({"from": f"{gap}h"} if gap else {}), timedelta(hours=gap)


@given(rule=rules(), hours=st.integers(1, 900), at=st.integers(0, 3_000), population=st.sampled_from([KIND, ATTACHED]))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_random_rules(
    odd: Connection, rule: tuple[dict[str, Any], timedelta], hours: int, at: int, population: str
) -> None:
    cuts = [CUTS[0], LAST - timedelta(hours=3_200 - at)]
    agree(odd, *rule, sorted(cuts), timedelta(hours=hours), population)
