"""Hours, weekdays, months and holidays of local time, against Python's calendar; waves and shares over them."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ubp_sql.features.compute import compute
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.events import Events
from ubp_sql.features.spec import FeatureSpec
from ubp_sql.kernels.dispatch import F32

EPOCH = datetime(1970, 1, 1)
DAY = 86_400_000_000
HOUR = DAY // 24
CLOCKS = ("hour", "weekday", "month")
SIZES = {"hour": 24, "weekday": 7, "month": 12}
FAR = 1 << 60
Local = tuple[datetime, int]  # time on the source's clock, seconds that the clock is ahead of UTC


def spec(aggregate: str, of: str | None = None, **rest: Any) -> FeatureSpec:
    name = f"{aggregate}_{of}" if of else aggregate
    return FeatureSpec.from_parts(name, aggregate, ["a"], of, "all", rest)


def rows(
    users: Sequence[Sequence[Local]], specs: Sequence[FeatureSpec], holidays: Sequence[int] = (), as_of: int = FAR
) -> F32:
    """A row for each user's events; all of them happened long before."""
    made = FeatureSetDefinition((), (), tuple(specs))
    flat = [e for events in users for e in sorted(events, key=utc)]
    t = np.array([utc(e) for e in flat], np.int64)
    n = len(users)
    events = Events(
        user_id=np.arange(n),
        first=np.cumsum([0, *map(len, users)]),
        t_us=t,
        ingested_us=t,
        offset_s=np.array([offset for _, offset in flat], np.int32),
        kind=np.zeros(len(t), np.int32),
    )
    moment = np.full(n, as_of)
    return compute(events, made, np.arange(n), moment, moment, holidays=np.array(holidays, np.int64)).features


def utc(event: Local) -> int:
    return (event[0] - EPOCH) // timedelta(microseconds=1) - 1_000_000 * event[1]


def parts(local: datetime) -> dict[str, int]:
    return {"hour": local.hour, "weekday": local.weekday(), "month": local.month - 1}


def test_every_day_of_four_centuries() -> None:
    """The 146,097 days after which the calendar repeats, at their first and last microsecond and between."""
    random, users = Random(4), []
    for n in range(146_097):
        clock = random.choice([0, DAY - 1, HOUR - 1, HOUR, random.randrange(DAY)])
        local = datetime(1900, 1, 1) + timedelta(days=n, microseconds=clock)
        users.append([(local, random.choice([0, 3600, -12 * 3600, 14 * 3600, 20_700, -1]))])
    found = rows(users, [spec("clock_top", of) for of in CLOCKS])
    assert found.tolist() == [list(parts(user[0][0]).values()) for user in users]


def test_holidays_are_local_days() -> None:
    days = sorted({0, -1, -25_567, 19_716, 19_717, 120_529})
    edges = [EPOCH + timedelta(days=day, microseconds=us) for day in days for us in (-1, 0, DAY - 1, DAY)]
    users = [[(local, offset)] for local in edges for offset in (0, 3600, -18_000)]
    wanted = [[float((local - EPOCH).days in days)] for [(local, _)] in users]
    assert rows(users, [spec("holiday_share")], days).tolist() == wanted
    assert not rows(users, [spec("holiday_share")]).any()
    assert len(np.unique(wanted)) == 2


@st.composite
def one_user(draw: st.DrawFn) -> list[Local]:
    times = st.datetimes(datetime(1900, 1, 1), datetime(2299, 12, 31))
    return draw(st.lists(st.tuples(times, st.sampled_from([0, 7200, -36_000])), max_size=12))


@given(st.lists(one_user(), min_size=1, max_size=3), st.sampled_from(CLOCKS), st.data())
@settings(deadline=None, max_examples=150)
def test_rhythm(users: list[list[Local]], of: str, data: st.DataObject) -> None:
    size = SIZES[of]
    places = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=size - 1, unique=True))
    named = [place + (of != "hour") for place in places]
    specs = [
        *(spec(a, of) for a in ("clock_sin", "clock_cos", "clock_entropy")),
        spec("clock_share", of, **{"in": named}),
    ]
    for user, row in zip(users, rows(users, specs), strict=True):
        if not user:
            assert np.isnan(row).all()
            continue
        at = [parts(local)[of] for local, _ in user]
        angles = [2 * math.pi * place / size for place in at]
        shares = [at.count(place) / len(at) for place in set(at)]
        waves = [sum(map(math.sin, angles)) / len(at), sum(map(math.cos, angles)) / len(at)]
        entropy = -sum(share * math.log(share) for share in shares)
        want = [*waves, entropy, sum(place in places for place in at) / len(at)]
        np.testing.assert_allclose(row, want, rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize("day", range(7))
def test_same_weekday_is_the_moments_own_local_weekday(day: int) -> None:
    """as_of is a Monday + day: of one event a weekday, the share is 1 for the matching one only."""
    monday = datetime(2024, 1, 1)
    users = [[(monday - timedelta(days=7 - weekday), 0)] for weekday in range(7)]
    as_of = utc((monday + timedelta(days=day, hours=5), 0))
    found = rows(users, [spec("same_weekday_share")], as_of=as_of)[:, 0]
    assert found.tolist() == [float(weekday == day) for weekday in range(7)]
