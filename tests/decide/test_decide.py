"""ubp.decide and its kin, against what predict says and arithmetic; whom a budget takes, against plain SQL."""

import json
import math
from time import perf_counter
from typing import Any

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.api.helpers import Connection, refused
from tests.fix_database import Database
from tests.serving_shop import USERS
from ubp_sql.api.predict import TOGETHER
from ubp_sql.models.decisions import MOST, OUTCOMES

PATIENCE_S = 1.5  # D8 wants 150 ms; a machine that runs other things too is given this many seconds
IDS = list(range(-1, USERS + 2))
COSTS = {"act_yes": -35, "act_no": 5, "skip_yes": 0, "skip_no": 0}
MANY = "select user_id, act, expected_profit, score, reason from ubp.decide_many(%s, %s, %s, %s)"
TOP = "select * from ubp.top_users(%s, %s, %s, %s, %s)"
# Known by the moment of the features, and computed at that moment again: as_of stays as it is.
LATE = """
insert into ubp.events (user_id, event_time, kind, value, ingested_at)
select u, '2025-06-30 00:00+00', 'purchase', 9, '2025-06-30 00:00+00' from generate_series(1, 99) u;
select * from ubp.refresh_features(timestamptz '2025-07-01 00:00+00')"""
# The same without windows or cursors.
PLAIN = """
select u.user_id, u.score, u.percentile, u.score * %(gain)s::float8 - %(cost)s::float8
  from ubp.user_scores u
 where u.task = %(task)s and u.score is not null
   and (%(gain)s::float8 is null or u.score * %(gain)s::float8 - %(cost)s::float8 > 0)
 order by u.score desc, u.percentile desc, u.user_id limit %(most)s"""


def said(conn: Connection, task: str = "purchase") -> dict[int | None, tuple[float | None, str | None]]:
    rows = conn.execute("select * from ubp.predict_many(%s, %s)", [task, IDS], binary=True)
    return {user: (score, reason) for user, score, reason in rows}


@pytest.mark.parametrize("task", ["purchase", "spend"])
@pytest.mark.parametrize(("gain", "cost"), [(40, 5), (40, 20), (1, 0), (0, 0), (0, 1), (0.3, 1e9), (1e15, 1e15)])
def test_decisions_are_of_what_predict_says(conn: Connection, task: str, gain: float, cost: float) -> None:
    known = said(conn, task)
    rows = conn.execute(MANY, [task, IDS, gain, cost], binary=True).fetchall()
    assert [row[0] for row in rows] == IDS
    for user, act, profit, score, reason in rows:
        assert score == known[user][0]
        if score is None:
            assert (act, profit, reason) == (None, None, known[user][1])
        else:
            assert profit == score * gain - cost
            assert act is (profit > 0)
            assert reason
    one = conn.execute(
        "select u, d.* from unnest(%s::bigint[]) u, ubp.decide(%s, u, %s, %s) d order by u",
        [IDS, task, float(gain), float(cost)],
        binary=True,
    ).fetchall()
    assert one == rows


def test_many_are_decided_in_pieces_in_the_order_asked(conn: Connection) -> None:
    """Also where the array has two dimensions."""
    few = conn.execute(MANY, ["purchase", IDS, 40, 5], binary=True).fetchall()
    times = 2 * TOGETHER // len(IDS) + 2
    assert conn.execute(MANY, ["purchase", IDS * times, 40, 5], binary=True).fetchall() == few * times
    assert (
        conn.execute(MANY, ["purchase", [list(IDS) for _ in range(times)], 40, 5], binary=True).fetchall()
        == few * times
    )


def test_many_can_be_cancelled(conn: Connection) -> None:
    """All their features at once would be read, and turned into objects, before a cancel is seen."""
    conn.execute("set statement_timeout = '500ms'")
    try:
        started = perf_counter()
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute(
                "select * from ubp.decide_many('purchase', array(select n %% %s from generate_series(1, 300000) n),"
                " 1, 1)",
                [USERS],
            )
        assert perf_counter() - started < 0.5 + PATIENCE_S
    finally:
        conn.execute("reset statement_timeout")


def test_decisions_by_costs(conn: Connection) -> None:
    rows = conn.execute(
        "select * from ubp.decide_many('purchase', %s, %s::jsonb)", [IDS, json.dumps(COSTS)], binary=True
    ).fetchall()
    plain = conn.execute(MANY, ["purchase", IDS, 40, 5], binary=True).fetchall()
    assert [row[1] for row in rows] == [row[1] for row in plain]
    assert [row[2] for row in rows] == pytest.approx([row[2] for row in plain])
    for user in (1, 10):
        one = conn.execute(
            "select * from ubp.decide('purchase', %s::bigint, %s::jsonb)", [user, json.dumps(COSTS)], binary=True
        ).fetchone()
        assert one == next(row[1:] for row in rows if row[0] == user)
    threshold = conn.execute("select ubp.threshold(%s::jsonb)", [json.dumps(COSTS)]).fetchone()
    assert threshold == (0.125,)


def test_a_cost_matrix_does_not_weigh_amounts(conn: Connection) -> None:
    found = conn.execute("select act, reason from ubp.decide('spend', 1, %s::jsonb)", [json.dumps(COSTS)]).fetchone()
    assert found is not None
    assert found[0] is None
    assert "weighs a chance" in found[1]


def test_keys_are_users(conn: Connection) -> None:
    for arguments in ("40, 5", f"'{json.dumps(COSTS)}'"):
        for user in (1, 10, 77):
            by_id, by_key = (
                conn.execute(f"select * from ubp.decide('purchase', {who}, {arguments})".encode()).fetchone()
                for who in (str(user), f"'{user}.0'")
            )
            assert by_id == by_key


@pytest.mark.parametrize("wrong", ["null", "-0.01", "'NaN'", "'Infinity'", "'-Infinity'"])
def test_gain_and_cost_are_sums(conn: Connection, wrong: str) -> None:
    for gain, cost in ((wrong, "5"), ("40", wrong)):
        refused(conn, "UB003", f"select * from ubp.decide('purchase', 1, {gain}, {cost})")
        refused(conn, "UB003", f"select * from ubp.decide('purchase', '1', {gain}, {cost})")
        refused(conn, "UB003", f"select * from ubp.decide_many('purchase', array[1], {gain}, {cost})")
        refused(
            conn, "UB003", f"select * from ubp.top_users('purchase', 5, {gain}, {cost})"
        ) if gain != "null" else None
        refused(conn, "UB003", f"select * from ubp.profit_curve('purchase', {gain}, {cost})")


def test_what_is_no_question(conn: Connection) -> None:
    refused(conn, "UB001", "select * from ubp.decide('nothing', 1, 40, 5)")
    refused(conn, "UB001", "select * from ubp.top_users('nothing', 5)")
    refused(conn, "UB003", "select * from ubp.decide_many('purchase', null, 40, 5)")
    refused(conn, "UB003", "select ubp.threshold(null::jsonb)")
    refused(conn, "UB003", "select ubp.threshold('purchase', -1)")
    refused(conn, "UB003", "select ubp.threshold('purchase', null)")
    for arguments in ("", ", -1", ", gain => 40", ", 5, cost => 3", ", funds => 10", ", funds => 10, cost => 0"):
        refused(conn, "UB003", f"select * from ubp.top_users('purchase'{arguments})")
    error = refused(conn, "UB005", "select * from ubp.top_users('again', 5)")
    assert "score_users('again')" in str(error.diag.message_hint)


@settings(max_examples=60, deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*OUTCOMES, "x"]), inner, max_size=5),
    max_leaves=6,
) | st.fixed_dictionaries({name: st.floats(-1e16, 1e16) | st.integers() for name in OUTCOMES}))  # fmt: skip
@example(dict.fromkeys(OUTCOMES, 10**400))
def test_any_json_is_four_costs_or_refused(conn: Connection, costs: Any) -> None:
    text = json.dumps(costs).replace("Infinity", "1e999").replace("\\u0000", "0")
    good = (
        isinstance(costs, dict)
        and set(costs) == set(OUTCOMES)
        and all(type(cost) in (int, float) and abs(cost) <= MOST for cost in costs.values())
    )
    query = "select act from ubp.decide('purchase', 1, %s::jsonb)"
    if good:
        assert conn.execute(query, [text]).fetchone() in ((True,), (False,))
    else:
        refused(conn, "UB003", query, text)


@pytest.mark.parametrize("task", ["purchase", "spend"])
@pytest.mark.parametrize("budget", [0, 1, 7, 100_000, None])
@pytest.mark.parametrize(("gain", "cost"), [(None, None), (40, 20), (0, 0), (1, 1e9)])
def test_top_users_are_those_of_plain_sql(
    conn: Connection, task: str, budget: int | None, gain: float | None, cost: float | None
) -> None:
    if budget is None and gain is None:
        return
    rows = conn.execute(TOP, [task, budget, gain, cost, None], binary=True).fetchall()
    plain = conn.execute(PLAIN, {"task": task, "gain": gain, "cost": cost, "most": budget}, binary=True).fetchall()
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    assert [row[1:] for row in rows] == plain


def test_ties_go_by_user(shop: Database) -> None:
    with shop.connect() as conn:
        conn.execute("update ubp.score_rows set score = 0.5, percentile = 0")
        assert [row[1] for row in conn.execute(TOP, ["purchase", 4, None, None, None])] == [1, 2, 3, 4]
        conn.execute("update ubp.score_rows set percentile = 1 where user_id = 77")  # of one value, not of one score
        assert [row[1] for row in conn.execute(TOP, ["purchase", 2, None, None, None])] == [77, 1]
        assert conn.execute("select ubp.threshold('purchase', 4)").fetchone() == (0.5,)  # nobody is above it


def test_funds_pay_for_so_many(conn: Connection) -> None:
    for funds, cost, users in ((100, 20, 5), (99.9, 20, 4), (0, 1, 0), (1e15, 1e-300, USERS - 30)):
        assert len(conn.execute(TOP, ["purchase", None, None, cost, funds]).fetchall()) == users
    assert len(conn.execute(TOP, ["purchase", 3, None, 20, 100]).fetchall()) == 3
    rows = conn.execute(TOP, ["purchase", None, 40, 20, 100]).fetchall()
    assert len(rows) == 5
    assert all(row[4] > 0 for row in rows)


def test_threshold_of_a_budget_keeps_it(conn: Connection) -> None:
    for budget in (0, 1, 10, 150, USERS):
        above = conn.execute(
            "select count(*) from ubp.user_scores where task = 'purchase' and score > ubp.threshold('purchase', %s)",
            [budget],
        ).fetchone()
        assert above is not None
        assert above[0] <= budget
        assert above[0] >= min(budget, USERS - 30) - 30  # the trees tie some


@pytest.mark.parametrize("task", ["purchase", "spend"])
def test_profit_curve_sums_the_best(conn: Connection, task: str) -> None:
    scores = [row[2] for row in conn.execute(TOP, [task, USERS, None, None, None], binary=True)]
    curve = conn.execute("select * from ubp.profit_curve(%s, 40, 20)", [task], binary=True).fetchall()
    assert [row[1] for row in curve] == sorted({-(-len(scores) * k // 100) for k in range(1, 101)})
    for share, users, threshold, profit in curve:
        assert share == users / len(scores)
        assert threshold == scores[users - 1]
        assert profit == pytest.approx(sum(40 * score - 20 for score in scores[:users]))
    best = max(row[3] for row in curve)
    paying = conn.execute(
        "select sum(expected_profit) from ubp.top_users(%s, gain => 40, cost => 20)", [task]
    ).fetchone()
    assert paying is not None
    assert best <= paying[0] + 1e-9
    assert best > 0.9 * paying[0]


@pytest.mark.parametrize(
    "change",
    [
        "select * from ubp.refresh_features(timestamptz '2025-07-02 00:00+00')",
        LATE,
        "select ubp.deploy_model('purchase', 2)",
        "select ubp.deploy_model('purchase', 1)",
        "select ubp.challenge_model('purchase', 2, 0.5)",
        "select ubp.set_abstention('purchase', 2)",
    ],
)
def test_old_scores_are_refused_until_everybody_is_scored_again(shop: Database, change: str) -> None:
    with shop.connect() as conn:
        conn.execute(change.encode())
        for query in (
            "select * from ubp.top_users('purchase', 5)",
            "select * from ubp.profit_curve('purchase', 40, 5)",
            "select ubp.threshold('purchase', 5)",
        ):
            error = refused(conn, "UB005", query)
            assert "ubp.score_users('purchase')" in str(error.diag.message_hint)
        conn.execute("select * from ubp.score_users('purchase')")
        top = conn.execute(TOP, ["purchase", 5, 40, 0, None], binary=True).fetchall()
        assert len(top) == 5
        acted = conn.execute(MANY, ["purchase", [row[1] for row in top], 40, 0], binary=True).fetchall()
        assert [row[3] for row in acted] == [row[2] for row in top]


def test_scores_of_a_transaction_that_refreshed_are_fresh(shop: Database) -> None:
    """The refresh ended after now(), which is the transaction's beginning."""
    with shop.connect() as conn, conn.transaction():
        conn.execute(LATE.encode())
        with conn.transaction(force_rollback=True):
            refused(conn, "UB005", "select * from ubp.top_users('purchase', 5)")
        conn.execute("select * from ubp.score_users('purchase')")
        assert len(conn.execute(TOP, ["purchase", 5, None, None, None]).fetchall()) == 5


def test_an_age_in_months_is_that_of_predict(shop: Database) -> None:
    """12 months are 360 days where ages are compared, and a year of the calendar where they are added to a date."""
    with shop.connect() as conn:
        conn.execute("select ubp.set_abstention('purchase', most_age => '12 months')")
        conn.execute("update ubp.score_runs set scored_at = now()")
        for days, answers in ((359, True), (362, False)):
            with conn.transaction():  # one now() for both
                for relation in ("ubp.feature_sets", "ubp.score_runs"):
                    conn.execute(f"update {relation} set as_of = now() - interval '{days} days'".encode())
            assert (conn.execute("select ubp.predict('purchase', 1)").fetchone() != (None,)) is answers
            if answers:
                assert conn.execute(TOP, ["purchase", 5, None, None, None]).fetchall()
            else:
                error = refused(conn, "UB005", "select * from ubp.top_users('purchase', 5)")
                assert "abstains" in str(error.diag.message_primary)


def test_row_security_of_stored_scores_holds(shop: Database) -> None:
    """Of the role that the functions run as."""
    with shop.connect() as conn:
        conn.execute("alter table ubp.score_rows enable row level security")
        conn.execute("create policy even on ubp.score_rows to ubp_reader using (user_id % 2 = 0)")
        conn.execute("set role ubp_analyst")
        rows = conn.execute(TOP, ["purchase", USERS, None, None, None]).fetchall()
        assert rows
        assert all(row[1] % 2 == 0 for row in rows)
        percentiles = conn.execute(
            "select u, d.percentile from generate_series(1::bigint, 9) u, ubp.predict_detail('purchase', u) d"
        ).fetchall()
        assert all((percentile is None) == (user % 2 == 1) for user, percentile in percentiles)
        most = conn.execute("select max(users) from ubp.profit_curve('purchase', 1, 0)").fetchone()
        assert most == (len(rows),)
        threshold = conn.execute("select ubp.threshold('purchase', 3)").fetchone()
        assert threshold == (rows[3][2],)


def test_scores_that_no_money_weighs(shop: Database) -> None:
    """As ubp.decide says of them: they are in no profit, and in no list of those where acting pays."""
    with shop.connect() as conn:
        conn.execute("update ubp.score_rows set score = 1e300 where user_id in (1, 2)")
        conn.execute("update ubp.score_rows set score = 'Infinity' where user_id = 3")
        conn.execute("update ubp.score_rows set score = 1e275 where user_id between 4 and 6")
        beyond = {1, 2, 3}
        for gain in (1e15, 1, 0):
            rows = conn.execute(TOP, ["spend", None, gain, 0, None], binary=True).fetchall()
            assert {row[1] for row in rows}.isdisjoint(beyond)
            assert {4, 5, 6} <= {row[1] for row in rows} or gain == 0
            curve = conn.execute("select * from ubp.profit_curve('spend', %s, 1)", [float(gain)]).fetchall()
            everybody = len(conn.execute(TOP, ["spend", USERS, None, None, None]).fetchall())
            assert curve[-1][1] == everybody - len(beyond)
            assert all(math.isfinite(row[3]) for row in curve)
        first = conn.execute(TOP, ["spend", 3, None, None, None]).fetchall()
        assert [(row[1], row[4]) for row in first] == [(3, None), (1, None), (2, None)]


DIGITS, DEEP = "1" * 5_000, "[" * 2_000 + "]" * 2_000


@pytest.mark.parametrize("value", [DIGITS, DEEP, f'"{"x" * (1 << 20)}"'])
def test_costs_that_are_no_json_of_ours(conn: Connection, value: str) -> None:
    text = json.dumps(COSTS).replace("-35", value)
    for query in (
        "select ubp.threshold(%s::jsonb)",
        "select * from ubp.decide('purchase', 1, %s::jsonb)",
        "select * from ubp.decide('purchase', '1', %s::jsonb)",
        "select * from ubp.decide_many('purchase', array[1], %s::jsonb)",
    ):
        error = refused(conn, "UB003", query, text)
        assert len(str(error.diag.message_primary)) < 200


def test_a_refused_change_of_policy_leaves_scores_fresh(shop: Database) -> None:
    with shop.connect() as conn:
        conn.execute("select ubp.set_abstention('purchase')")
        assert conn.execute("select count(*) from ubp.task_policies").fetchone() == (0,)
        conn.execute("select ubp.set_abstention('spend', 2)")
        conn.execute("select * from ubp.score_users('spend')")
        conn.execute("select ubp.set_abstention('spend', 2)")
        for task in ("purchase", "spend"):
            assert len(conn.execute(TOP, [task, 3, None, None, None]).fetchall()) == 3


def test_abstention_reaches_decisions(shop: Database) -> None:
    with shop.connect() as conn:
        before = said(conn)
        conn.execute("select ubp.set_abstention('purchase', 3)")
        after = conn.execute(MANY, ["purchase", IDS, 40, 5], binary=True).fetchall()
        abstained = [row for row in after if row[4].startswith("abstained")]
        assert {row[3] for row in after if row not in abstained} <= {score for score, _ in before.values()}
        assert all((act, profit, score) == (None, None, None) for _, act, profit, score, _ in abstained)
        conn.execute("select ubp.set_abstention('purchase', most_age => '1 day')")
        found = conn.execute("select act, reason from ubp.decide('purchase', 1, 40, 5)").fetchone()
        assert found is not None
        assert found[0] is None
        assert "days old" in found[1]
        error = refused(conn, "UB005", "select * from ubp.top_users('purchase', 5)")
        assert "abstains" in str(error.diag.message_primary)
        conn.execute("select ubp.set_abstention('purchase')")
        assert said(conn) == before


def test_policies_that_are_none(conn: Connection) -> None:
    for arguments in ("0", "-3", "null, interval '0'", "null, interval '-1 day'", "2, interval '1 day -48 hours'"):
        refused(conn, "UB003", f"select ubp.set_abstention('purchase', {arguments})")
    refused(conn, "UB001", "select ubp.set_abstention('nothing', 2)")
    refused(conn, "UB001", "select ubp.set_abstention(null, 2)")


def test_a_policy_goes_with_its_task(shop: Database) -> None:
    with shop.connect() as conn:
        conn.execute("select ubp.define_feature_set('other', array['purchase'], array[7])")
        conn.execute("select ubp.define_task('short_lived', 'purchase', feature_set => 'other')")
        conn.execute("select ubp.set_abstention('short_lived', 2)")
        conn.execute("select ubp.drop_feature_set('other')")
        assert conn.execute("select count(*) from ubp.task_policies").fetchone() == (0,)


def test_rights(shop: Database) -> None:
    calls = {
        "ubp_analyst": ["select * from ubp.decide('purchase', 1, 40, 5)", "select * from ubp.top_users('purchase', 3)"],
        "ubp_admin": ["select ubp.set_abstention('purchase', 2)", "select ubp.conform_model('purchase', 1)"],
    }
    with shop.connect() as conn:
        for role in ("ubp_analyst", "ubp_loader", "ubp_auditor"):
            conn.execute(f"set role {role}".encode())
            for call in calls["ubp_analyst"]:
                assert conn.execute(call.encode()).fetchall()
            for call in calls["ubp_admin"]:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute(call.encode())
            conn.execute("reset role")
        conn.execute("set role ubp_admin")
        for call in calls["ubp_admin"]:
            conn.execute(call.encode())
