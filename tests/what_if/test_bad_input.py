"""Bad input is refused in one line with a way out; what cannot be answered says why."""

import json
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.api.helpers import Connection, refused
from tests.fix_database import Database

IF = "select ubp.predict_if('purchase', 3, %s)"
CHANGES = [
    (None, "changes is NULL"),
    ("{}", "nothing that should be different"),
    ('{"events": []}', "nothing that should be different"),
    ("[]", "not an object"),
    ("7", "not an object"),
    ("null", "changes is null, not an object"),
    ('"count_view_30d"', "not an object"),
    ('{"count_view_30": 1}', "no 'count_view_30'"),
    ('{"": 1}', "no ''"),
    ('{"count_view_30d": "3"}', "not a number or null"),
    ('{"count_view_30d": true}', "is true, not a number or null"),
    ('{"count_view_30d": [1]}', "not a number or null"),
    ('{"count_view_30d": {"min": 1}}', "not a number or null"),
    ('{"count_view_30d": "NaN"}', "not a number or null"),
    ('{"count_view_30d": 3.5e38}', "is 3500000"),
    ('{"count_view_30d": -1e400}', "count_view_30d' is"),
    ('{"count_view_30d": 1%s}' % ("0" * 5000), "beyond every range"),
    ('{"events": "view"}', "'events' is 'view', not a number"),
    ('{"events": {"kind": "view"}}', "not a list"),
    ('{"events": [7]}', "event 1 is 7"),
    ('{"events": [{"kind": "view"}, {}]}', "event 2 has no kind"),
    ('{"events": [{"kind": null}]}', "has no kind"),
    ('{"events": [{"kind": 7}]}', "kind is 7, not text"),
    ('{"events": [{"kind": "vieuw"}]}', "no feature of the task looks at 'vieuw'"),
    ('{"events": [{"kind": "view", "when": "now"}]}', "no field 'when'"),
    ('{"events": [{"kind": "view", "user_id": 7}]}', "no field 'user_id'"),
    ('{"events": [{"kind": "view", "value": "7"}]}', "value is '7', not a number"),
    ('{"events": [{"kind": "view", "value": 1e309}]}', "value is 1000000"),
    ('{"events": [{"kind": "view", "quantity": 1e39}]}', "quantity is 100000"),
    ('{"events": [{"kind": "view", "duration_s": false}]}', "not a number"),
    ('{"events": [{"kind": "view", "item_id": 1.5}]}', "not a whole number"),
    ('{"events": [{"kind": "view", "item_id": 9223372036854775808}]}', "not a whole number in range"),
    ('{"events": [{"kind": "view", "item_id": "85123A"}]}', "not a whole number"),
    ('{"events": [{"kind": "view", "source": 99}]}', "no source 99"),
    ('{"events": [{"kind": "view", "source": 2147483648}]}', "in range"),
    ('{"events": [{"kind": "view", "attributes": "x"}]}', "not an object"),
    ('{"events": [{"kind": "view", "event_time": "soon"}]}', "is 'soon', no time"),
    ('{"events": [{"kind": "view", "event_time": 1700000000}]}', "not text"),
    ('{"events": [{"kind": "view", "event_time": "infinity"}]}', "is infinity"),
    ('{"events": [{"kind": "view", "event_time": "-infinity"}]}', "is -infinity"),
    ('{"events": [{"kind": "view", "event_time": "0044-03-15 BC"}]}', "0044-03-15 BC"),
    ('{"events": [{"kind": "view", "event_time": "2024-03-31 01:00+00"}]}', "not before the moment"),
    ('{"events": [{"kind": "view", "event_time": "2024-05-01"}], "as_of": "2024-05-01"}', "not before the moment"),
    (json.dumps({"events": [{"kind": "view"}] * 1001}), "1001 events, more than 1000"),
    ('{"as_of": null}', "as_of is null"),
    ('{"as_of": 20240501}', "not a time in quotes"),
    ('{"as_of": ""}', "as_of is '', no time"),
    ('{"as_of": "2024-13-01"}', "no time"),
    ('{"as_of": "infinity"}', "as_of is infinity"),
    ('{"as_of": "20000-01-01"}', "as_of is 20000-01-01"),
    ('{"as_of": "2024-05-01", "what": 1}', "no 'what'"),
    ('{"events": [{"kind": "view", "attributes": {"a": %s}}]}' % ("[" * 1200 + "]" * 1200), "nested too deep"),
    ('{"x": "%s"}' % ("y" * (1 << 20)), "more than 1048576"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), CHANGES, ids=range(len(CHANGES)))
def test_changes(kept: Connection, changes: str | None, said: str) -> None:
    error = refused(kept, "UB003", IF, changes)
    assert said in str(error.diag.message_primary)
    assert len(str(error.diag.message_primary)) < 200
    assert error.diag.message_hint


@pytest.mark.parametrize(
    ("changes", "meant"),
    [
        ('{"count_veiw_30d": 1}', "'count_view_30d'"),
        ('{"event": [{"kind": "view"}]}', "'events'"),
        ('{"events": [{"kind": "vieuw"}]}', "'view'"),
        ('{"events": [{"kinds": "view"}]}', "'kind'"),
    ],
)
def test_a_hint_names_what_was_meant(kept: Connection, changes: str, meant: str) -> None:
    assert meant in str(refused(kept, "UB003", IF, changes).diag.message_hint)


def test_tasks_that_cannot_answer(logged: Database) -> None:
    with logged.connect() as conn:
        refused(conn, "UB001", "select ubp.predict_if('no_task', 3, '{\"x\": 1}')")
        refused(conn, "UB001", "select ubp.predict_if(null, 3, '{\"x\": 1}')")
        refused(conn, "UB001", "select * from ubp.explain_events('no_task', 3, 'x')")
        conn.execute("begin")
        conn.execute("select ubp.define_task('other', 'view')")
        refused(conn, "UB004", "select ubp.predict_if('other', 3, '{\"x\": 1}')")
        conn.execute("rollback")


scalars = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
keys = st.sampled_from(["events", "as_of", "count_view_30d", "kind", "event_time", "value", "attributes"]) | texts
words = st.sampled_from(["view", "2024-03-01", "now", "2024-05-01"]) | texts
anything = st.recursive(
    scalars | words, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(changes=anything | st.dictionaries(keys, anything, max_size=4))
@example(changes={"events": [{"kind": "view", "attributes": {"the channel": ["x"]}}], "as_of": "2024-05-01"})
def test_any_json_is_answered_or_refused(kept: Connection, changes: Any) -> None:
    try:
        found = kept.execute(IF, [json.dumps(changes)]).fetchone()
    except psycopg.Error:
        refused(kept, "UB003", IF, json.dumps(changes))
    else:
        assert found is not None
        assert found[0] is None or 0 <= found[0] <= 1


FEATURES = [
    ("null", "20", "feature is NULL"),
    ("'count_veiw_30d'", "20", "no 'count_veiw_30d'"),
    ("''", "20", "no ''"),
    ("'count_view_30d'", "0", "limit is 0"),
    ("'count_view_30d'", "-1", "limit is -1"),
    ("'count_view_30d'", "null", "limit is null"),
]


@pytest.mark.parametrize(("feature", "limit", "said"), FEATURES)
def test_features(kept: Connection, feature: str, limit: str, said: str) -> None:
    error = refused(kept, "UB003", f"select * from ubp.explain_events('purchase', 3, {feature}, {limit})")
    assert said in str(error.diag.message_primary)
    assert error.diag.message_hint


@pytest.mark.parametrize(
    ("user", "feature", "said"),
    [
        ("4242", "count_view_30d", "no events: no features: the user is unknown"),
        ("null::bigint", "count_view_30d", "the user is unknown"),
        ("'nobody'", "count_view_30d", "the user is unknown"),
        ("2", "count_view_30d", "no event of user 2 counts as of 2024-03-31 01:00:00+00, [as_of - 30d, as_of)"),
        ("3", "percentile_count_0", "the events behind the feature count_0"),
        ("3", "item_popularity", "the user's newest item"),
    ],
)
def test_what_rows_leave_unsaid(logged: Database, user: str, feature: str, said: str) -> None:
    notices: list[str] = []
    with logged.connect() as conn:
        conn.add_notice_handler(lambda notice: notices.append(str(notice.message_primary)))
        conn.execute(f"select * from ubp.explain_events('purchase', {user}, '{feature}')".encode())
    assert len(notices) == 1
    assert said in notices[0]


def test_the_newest_are_shown(logged: Database) -> None:
    notices: list[str] = []
    query = "select event_id, event_time from ubp.explain_events('purchase', '3', 'count_2', {})"
    with logged.connect() as conn:
        conn.add_notice_handler(lambda notice: notices.append(str(notice.message_primary)))
        every = conn.execute(query.format(1000).encode()).fetchall()
        some = conn.execute(query.format(7).encode()).fetchall()
    assert some == every[:7]
    assert every == sorted(every, key=lambda row: row[1], reverse=True)
    assert notices == [f"7 of {len(every)} events are shown, the newest"]


def test_who_may(logged: Database) -> None:
    with logged.connect() as conn:
        for role, events in (("ubp_analyst", False), ("ubp_loader", False), ("ubp_auditor", True), ("ubp_admin", True)):
            conn.execute(f"set role {role}".encode())
            assert conn.execute(IF, ['{"events": [{"kind": "view"}]}']).fetchone() is not None
            for user in ("3", "'3'"):
                query = f"select * from ubp.explain_events('purchase', {user}, 'count_view_30d')".encode()
                if events:
                    assert conn.execute(query).fetchall()
                else:
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        conn.execute(query)
            conn.execute("reset role")


RAW = [{"item_id": 3}, {"attributes": {"order_id": "o3-1"}}, {"attributes": {}}, {"source": 0}]


@pytest.mark.parametrize("field", RAW)
@pytest.mark.parametrize("user", ["3", "'3'"])
def test_only_who_may_read_events_compares_with_them(logged: Database, field: dict[str, Any], user: str) -> None:
    """Else what the event changes would tell which items, orders and attributes a user had."""
    queries = [f"select ubp.predict_if('purchase', {user}, %s)"]
    queries.append(f"select * from ubp.predict_if_detail('purchase', {user}, %s)")
    changes = json.dumps({"events": [{"kind": "view"}, {"kind": "view", **field}]})
    with logged.connect() as conn:
        for role in ("ubp_analyst", "ubp_loader", "ubp_auditor", "ubp_admin", "none"):
            conn.execute(f"set role {role}".encode())
            for query in queries:
                if role in ("ubp_analyst", "ubp_loader"):
                    error = refused(conn, "UB011", query, changes)
                    assert next(iter(field)) in str(error.diag.message_primary)
                    assert "ubp_auditor" in str(error.diag.message_hint)
                else:
                    assert conn.execute(query.encode(), [changes]).fetchone() is not None
            conn.execute("reset role")


def test_a_session_that_turns_into_another_role(logged: Database) -> None:
    """The plan that a session keeps says nothing of the role."""
    changes = '{"events": [{"kind": "view", "item_id": 3}]}'
    with logged.connect() as conn:
        conn.execute(IF, [changes])
        conn.execute("set role ubp_analyst")
        refused(conn, "UB011", IF, changes)
        conn.execute("set role ubp_auditor")
        conn.execute(IF, [changes])
