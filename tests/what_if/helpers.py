"""Events at random, as the analyst writes them and as rows of ubp.events."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from tests.api.helpers import Connection
from tests.features.spec_cases import AS_OF, KINDS, ZONES
from tests.live.helpers import insert

VECTOR = "select ubp.feature_vector(%s::bigint, %s)"
times = st.integers(0, 40 * 86_400 * 10**6).map(lambda us: AS_OF - timedelta(microseconds=1 + us))
edges = st.sampled_from([timedelta(days=days) for days in (0.5, 7, 14, 30, 60)])
events = st.fixed_dictionaries(
    {"kind": st.sampled_from([*KINDS, "attribute:plan"])},
    optional={
        "event_time": times | edges.map(lambda back: AS_OF - back),
        "item_id": st.integers(0, 4),
        "value": st.sampled_from([-3.5, 0, 19.99, 1e9, 5e-324]),
        "quantity": st.sampled_from([1, 2.5, 0.1, 3e38]),
        "duration_s": st.sampled_from([0.25, 120]),
        "attributes": st.fixed_dictionaries(
            {},
            optional={
                "order_id": st.sampled_from(["o3-1", "o5-0", "new"]),
                "the channel": st.sampled_from(["e-mail", "búsqueda", ""]),
                "discount": st.sampled_from([0.25, "0.5", "none", True, None]),
                "q": st.sampled_from(["red Shoes", "x9 wool-hat"]),
            },
        ),
        "source": st.sampled_from(list(ZONES)),
    },
)


def inserted(conn: Connection, user: int, made: Sequence[dict[str, Any]], as_of: datetime) -> None:
    rows = []
    for event in made:
        time = event.get("event_time", as_of - timedelta(microseconds=1))
        names = ("kind", "item_id", "value", "quantity", "duration_s")
        values = [event.get(name) for name in names]
        attributes = event.get("attributes")
        text = None if attributes is None else json.dumps(attributes)
        rows.append((user, time, *values, text, time, event.get("source", 0)))
    insert(conn, rows)
