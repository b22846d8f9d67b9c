"""A hypothetical event is worth what the same event is worth when it is inserted, in every state, to the bit."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.helpers import Connection
from tests.features.spec_cases import AS_OF, BUY
from tests.fix_database import Database
from tests.live.helpers import NO_LIBRARY, insert, loaded
from tests.what_if.helpers import VECTOR, events, inserted
from ubp_sql.features.standing import FAMILIES

DETAIL = "select * from ubp.predict_if_detail('purchase', %s::bigint, %s)"
VALUE = "select ubp.predict_if('purchase', %s::bigint, %s)"
PREDICT = "select ubp.predict('purchase', %s::bigint, %s)"
VIEWS = "select features -> 'count_view_all' -> 1 from ubp.predict_if_detail('purchase', %s::bigint, %s)"
SCORE = "select ubp.score('purchase', %s::float8[])"
LATER = AS_OF + timedelta(days=3, hours=7)
NOBODY = 4242


def written(made: Sequence[dict[str, Any]], **more: Any) -> str:
    """As the analyst writes them."""
    return json.dumps({**more, "events": made}, default=datetime.isoformat)


def compared(conn: Connection, user: int, made: Sequence[Any], as_of: datetime | None, names: list[str]) -> None:
    """What is said of hypothetical events, and of the same events inserted."""
    more = {} if as_of is None else {"as_of": as_of.isoformat()}
    said = conn.execute(DETAIL, [user, written(made, **more)], binary=True).fetchone()
    assert said is not None
    assert conn.execute(VALUE, [user, written(made, **more)], binary=True).fetchone() == (said[0],)
    stored = conn.execute("select features from ubp.feature_rows where user_id = %s", [user], binary=True).fetchone()
    row = dict.fromkeys(names) if stored is None else dict(zip(names, stored[0], strict=True))
    row |= {name: after for name, (_, after) in said[4].items()}
    with conn.transaction(force_rollback=True):
        inserted(conn, user, made, as_of or AS_OF)
        vector = conn.execute(VECTOR, [user, as_of or AS_OF], binary=True).fetchone()
        assert conn.execute(PREDICT, [user, as_of or AS_OF], binary=True).fetchone() == (said[0],)
    assert vector is not None
    for name, value in zip(names, vector[0], strict=True):
        # Of a day that nobody recorded what everybody does is counted anew, and an insert would count there.
        assert bits(row[name]) == bits(value) or (as_of is not None and name.startswith(FAMILIES)), name


def bits(value: float | None) -> int:
    return -1 if value is None or value != value else int(np.float32(value + 0.0).view(np.uint32))


slow = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@slow
@given(
    user=st.sampled_from([1, 2, 3, 5, 8, NOBODY]),
    made=st.lists(events, min_size=1, max_size=6),
    as_of=st.sampled_from([None, None, LATER, AS_OF]),
)
def test_as_if_it_were_inserted(kept: Connection, names: list[str], user: int, made: list[Any], as_of: Any) -> None:
    compared(kept, user, made, as_of, names)


TWO = [
    {"kind": "view", "item_id": 3, "source": 10},
    {"kind": BUY, "value": 1.7e308, "event_time": AS_OF - timedelta(days=7)},
]


@pytest.mark.parametrize(("user", "library"), [(3, True), (NOBODY, True), (3, False)])
def test_in_every_state(logged: Database, names: list[str], user: int, library: bool) -> None:
    """Mirror, deltas, rows in neither, no mirror; by the library and by Numba."""
    at = AS_OF - timedelta(days=7)  # the time of one of TWO, which comes after it
    late = [(user, at, BUY, None, 7.0, None, None, None, at, 0), (user, at, "cart", *[None] * 5, LATER, 0)]
    with logged.connect() as conn:
        if not library:
            conn.execute(NO_LIBRARY)
        compared(conn, user, TWO, None, names)
        conn.execute("begin")
        insert(conn, late)
        compared(conn, user, TWO, None, names)
        conn.execute("select ubp.build_mirror()")
        compared(conn, user, TWO, None, names)
        conn.execute("select ubp.drop_mirror()")
        compared(conn, user, TWO, None, names)
        conn.execute("rollback")
        assert ("numba" in loaded(conn)) is not library


def value(conn: Connection, changes: Any, user: int = 3) -> Any:
    found = conn.execute(VALUE, [user, json.dumps(changes)], binary=True).fetchone()
    assert found is not None
    return found[0]


def test_the_library_alone_computes_it(shop: Database) -> None:
    """Neither NumPy nor Numba is loaded."""
    user = shop.one("select user_id from ubp.feature_rows where ubp.predict('purchase', user_id) is not null limit 1")
    with shop.connect() as conn:
        conn.execute(DETAIL, [user, '{"events": [{"kind": "view"}], "days_since_view": 3}'])
        assert loaded(conn) == ""


def test_features_of_other_values(logged: Database, names: list[str]) -> None:
    """The stored row with those values in their place, scored by the model itself."""
    with logged.connect() as conn:
        row = conn.execute("select features from ubp.feature_rows where user_id = 3", binary=True).fetchone()
        assert row is not None
        seen = set()
        for name, change in [(names[0], 0), (names[1], 7.5), (names[2], None), (names[40], -1e30), (names[-1], 2**70)]:
            features = list(row[0])
            features[names.index(name)] = change
            want = conn.execute(SCORE, [[None if v is None else float(v) for v in features]], binary=True).fetchone()
            assert want == (value(conn, {name: change}),)
            detail = conn.execute(DETAIL, [3, json.dumps({name: change})]).fetchone()
            assert detail is not None
            assert list(detail[4]) == [name]
            assert detail[2] == conn.execute("select ubp.predict('purchase', 3)").fetchone()[0]  # type: ignore[index]
            assert detail[3] == detail[0] - detail[2]
            seen.add(detail[0])
    assert len(seen) > 1, "the model looks at some of them"


def test_a_feature_stands_above_an_event(logged: Database) -> None:
    with logged.connect() as conn:
        both = {"events": [{"kind": "view"}], "count_view_30d": 0}
        detail = conn.execute(DETAIL, [3, json.dumps(both)]).fetchone()
        assert detail is not None
        assert detail[4]["count_view_30d"][1] == 0
        assert detail[4]["count_view_all"][1] == detail[4]["count_view_all"][0] + 1


def test_another_moment_is_that_of_predict(logged: Database) -> None:
    with logged.connect() as conn:
        for moment in (AS_OF - timedelta(days=20), LATER, datetime(2031, 1, 1, tzinfo=UTC)):
            want = conn.execute(PREDICT, [3, moment], binary=True).fetchone()
            assert want == (value(conn, {"as_of": moment.isoformat()}),)
        assert value(conn, {"as_of": "2024-04-03 08:00"}) == value(conn, {"as_of": LATER.isoformat()}), "UTC's clock"
        conn.execute("set timezone = 'Asia/Tokyo'")
        assert value(conn, {"as_of": "2024-04-03 08:00"}) == value(conn, {"as_of": LATER.isoformat()})


def test_too_little_history(logged: Database, names: list[str]) -> None:
    """User 2 searched only, and the model is of those who viewed."""
    with logged.connect() as conn:
        assert value(conn, {"events": [{"kind": "search"}]}, 2) is None
        assert value(conn, {"events": [{"kind": "view"}]}, 2) is not None
        assert value(conn, {"events": [{"kind": "view"}]}, NOBODY) is not None
        assert value(conn, {names[0]: 1}, NOBODY) is None
        assert value(conn, {"count_view_all": 0}) is None
        detail = conn.execute(DETAIL, [3, '{"count_view_all": 0}']).fetchone()
        assert detail is not None
        assert (detail[0], detail[3], detail[1][:18]) == (None, None, "too little history")
        assert conn.execute(DETAIL, [NOBODY, json.dumps({names[0]: 1})]).fetchone()[1].startswith("no features")  # type: ignore[index]
        assert conn.execute(DETAIL, [None, '{"as_of": "2024-03-01"}']).fetchone()[1].startswith("no features")  # type: ignore[index]


def test_by_key(logged: Database) -> None:
    changes = json.dumps({"events": [{"kind": "view"}, {"kind": "cart"}]})
    with logged.connect() as conn:
        for query in (
            "select ubp.predict_if('purchase', {}, %s)",
            "select * from ubp.predict_if_detail('purchase', {}, %s)",
        ):
            of_key = conn.execute(query.format("'3'").encode(), [changes]).fetchall()
            assert of_key == conn.execute(query.format("3::bigint").encode(), [changes]).fetchall()
            assert len(of_key) == 1
            nobody = conn.execute(query.format("'nobody'").encode(), [changes]).fetchone()
            of_id = conn.execute(query.format(NOBODY).encode(), [changes]).fetchone()
            assert nobody == of_id, "both are somebody without events"
            assert nobody is not None
            assert nobody[0] is not None


def test_users_that_were_linked(logged: Database, names: list[str]) -> None:
    """The events of one id are the user's whose it is."""
    with logged.connect() as conn:
        conn.execute("begin")
        insert(conn, [(77, AS_OF - timedelta(days=9), "view", *[None] * 5, AS_OF - timedelta(days=9), 0)])
        conn.execute("insert into ubp.users (user_id, user_key) values (3, '3'), (77, '77') on conflict do nothing")
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        conn.execute("select ubp.link_users('3', '77')")
        changes = written(TWO)
        counts = [conn.execute(VIEWS, [user, changes]).fetchone() for user in (3, 77)]
        assert counts[0] == counts[1], "also while the other has a row of its own"
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        of_one, of_other = (conn.execute(DETAIL, [user, changes], binary=True).fetchall() for user in (3, 77))
        assert of_one == of_other
        compared(conn, 3, TWO, None, names)
        conn.execute("rollback")
