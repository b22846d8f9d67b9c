"""Local clocks of millions of moments, against `at time zone` for each."""

from collections.abc import Iterator
from random import Random

import pytest

from tests.api.helpers import Connection
from tests.fix_database import create, drop
from ubp_sql.embedded import Cluster

LOCAL = """
create function pg_temp.local(zone text, us bigint[]) returns bigint[] language plpython3u as $$
import numpy as np
from ubp_sql.api.zones import clock
return clock(plpy, SD, zone, min(us), max(us)).local_us(np.array(us, np.int64)).tolist()
$$"""
WANT = """
select array_agg((extract(epoch from moment at time zone %(zone)s) * 1000000)::bigint order by place)
  from (select place, timestamptz 'epoch' + m / 1000000 * interval '1 second' + m %% 1000000 * interval '1 microsecond'
               as moment
          from unnest(%(us)s::bigint[]) with ordinality as u (m, place)) x"""
SECOND = 1_000_000
YEAR = 31_557_600 * SECOND


@pytest.fixture(scope="module")
def conn(cluster: Cluster, installed: str) -> Iterator[Connection]:
    made = create(cluster, installed)
    with made.connect() as conn:
        conn.execute(LOCAL)
        yield conn
    drop(made)


# Half-hour changes, one at midnight, a day left out, changes of date line and of law, and none at all.
@pytest.mark.parametrize(
    "zone",
    [
        "UTC",
        "Europe/Berlin",
        "Australia/Lord_Howe",
        "America/Sao_Paulo",
        "Pacific/Apia",
        "Asia/Kathmandu",
        "Africa/Casablanca",
        "Asia/Kolkata",
    ],
)
def test_every_moment_of_a_century(conn: Connection, zone: str) -> None:
    random = Random(zone)
    anywhere = [random.randrange(-70 * YEAR, 130 * YEAR) for _ in range(500)]
    # Around each change: what PostgreSQL says of every half hour of a few years, and a second and a microsecond off.
    changes = [
        row[0]
        for row in conn.execute(
            """select extract(epoch from m)::bigint * 1000000 from (
                 select m, m at time zone %(zone)s - (m - interval '30 minutes') at time zone %(zone)s as step
                   from generate_series(timestamptz '2010-01-01 00:00+00', '2024-01-01 00:00+00', '30 minutes') m) x
                where step <> interval '30 minutes'""",
            {"zone": zone},
        )
    ]
    near = [change + step for change in changes for step in (-SECOND, -1, 0, 1, SECOND, 3600 * SECOND)]
    assert zone in ("UTC", "Asia/Kathmandu", "Asia/Kolkata") or near
    for moments in (anywhere + near, near[:7] or anywhere[:2], anywhere[:1]):
        got = conn.execute("select pg_temp.local(%s, %s::bigint[])", [zone, moments]).fetchone()
        want = conn.execute(WANT, {"zone": zone, "us": moments}).fetchone()
        assert got is not None
        assert want is not None
        assert got[0] == want[0]
