"""As many event kinds as a set may have: the last ones in masks, funnels and dwell, by each way that computes a row."""

import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from tests.api.helpers import Event, insert, refused
from tests.fix_database import Database
from ubp_sql.kernels.codes import MAX_KINDS, STEP_BITS

KINDS = [f"k{n}" for n in range(MAX_KINDS)]
LAST = KINDS[-8:]
AS_OF = datetime(2024, 5, 6, tzinfo=UTC)


def features() -> list[dict[str, Any]]:
    """A count of each kind, so that the set's kinds are in this order; then what packs kinds into bits."""
    counts = [{"name": f"n_{kind}", "aggregate": "count", "kinds": [kind], "window": "30d"} for kind in KINDS]
    timed = {"window": "30d"}
    return [
        *counts,
        {"name": "ends", "aggregate": "sum", "kinds": [KINDS[0], KINDS[-1]], **timed},
        {"name": "part", "aggregate": "share", "kinds": KINDS[-2:], "against": LAST, "window": "all"},
        {"name": "deep", "aggregate": "funnel_depth", "settings": {"steps": LAST, "bound": "60d"}, "window": "all"},
        {
            "name": "rate",
            "aggregate": "funnel_rate",
            "settings": {"steps": [LAST[-1], LAST[0]], "bound": "9d"},
            **timed,
        },
        {
            "name": "stay",
            "aggregate": "dwell_sum",
            "kinds": LAST[-2:],
            "settings": {"timeout": "9d", "until": LAST[-1:]},
            **timed,
        },
    ]


def test_the_last_kinds_count(db: Database) -> None:
    assert MAX_KINDS < 1 << STEP_BITS
    random = Random(31)
    times = [AS_OF - timedelta(minutes=random.randrange(1, 60_000)) for _ in range(6_000)]
    log = [
        Event(1 + n % 20, t, random.choice([*KINDS, *LAST, "none"]), 1, random.random()) for n, t in enumerate(times)
    ]
    # A user who goes through all steps of the longest funnel.
    log += [Event(21, AS_OF - timedelta(days=20 - n), kind, 1, 1.0) for n, kind in enumerate(LAST)]
    with db.connect() as conn:
        insert(conn, log)
        conn.execute("select ubp.define_features(%s::jsonb)", [json.dumps(features())])
        assert conn.execute("select ubp.sequence_kinds()").fetchone() == (KINDS,)
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        names = [feature["name"] for feature in features()]
        rows = conn.execute(f"select user_id, {', '.join(names)} from ubp.user_features order by 1".encode()).fetchall()
        assert len(rows) == 21
        assert dict(zip(names, rows[20][1:], strict=True))["deep"] == len(LAST)
        assert sum(row[1 + names.index("stay")] for row in rows) > 0
        for user, *values in rows:
            live = conn.execute("select value::real from ubp.features(%s::bigint, %s)", [user, AS_OF]).fetchall()
            assert [value for (value,) in live] == values
        for place, (query,) in enumerate(
            conn.execute("select sql_oracle from ubp.feature_catalogue order by position")
        ):
            said = dict(conn.execute(query).fetchall())
            for user, *values in rows:
                want = said.get(user)
                assert values[place] == (want if want is None else pytest.approx(float(want), rel=1e-5)), names[place]
        refused(conn, "UB003", "select ubp.define_feature('more', 'count', array['none'])")
