"""Past moments to learn from: no label window reaches into what is tested, and newer rows weigh more."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from ubp_sql.errors import BadInput, TrainingError
from ubp_sql.training.cuts import last_matured, parse_cut, training_cuts, weights
from ubp_sql.training.settings import CUTS_PER_HORIZON, HALF_LIFE_DAYS, HISTORY_HORIZONS, MOST_CUTS

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize("horizon", [30 * DAY, 7 * DAY, timedelta(hours=36)])
@pytest.mark.parametrize("span", [3, 5.5, 9, 100])
def test_label_windows_end_before_the_test(horizon: timedelta, span: float) -> None:
    before = FIRST + span * horizon
    cuts = training_cuts(FIRST, before, horizon)
    assert cuts == sorted(set(cuts))
    assert cuts[-1] + horizon == before  # the newest that is allowed is used
    assert cuts[0] >= FIRST + horizon
    assert {later - earlier for earlier, later in pairwise(cuts)} <= {horizon / CUTS_PER_HORIZON}
    assert len(cuts) <= MOST_CUTS
    if span - 1 > HISTORY_HORIZONS:
        assert cuts[0] >= FIRST + HISTORY_HORIZONS * horizon


def test_a_log_too_short_says_what_it_takes() -> None:
    assert len(training_cuts(FIRST, FIRST + 60 * DAY, 30 * DAY)) == 1
    with pytest.raises(TrainingError, match="too few") as caught:
        training_cuts(FIRST, FIRST + 59 * DAY, 30 * DAY)
    assert "90 days" in str(caught.value.hint)


def test_last_matured_is_a_midnight_whose_horizon_was_seen() -> None:
    assert last_matured(datetime(2011, 12, 9, 12, 50, tzinfo=UTC), 30 * DAY) == datetime(2011, 11, 9, tzinfo=UTC)
    elsewhere = datetime.fromisoformat("2011-12-09T01:00+02:00")  # the 8th in UTC
    assert last_matured(elsewhere, 30 * DAY) == datetime(2011, 11, 8, tzinfo=UTC)


def test_weights_halve_with_age() -> None:
    cuts = [FIRST, FIRST + HALF_LIFE_DAYS * DAY, FIRST + 2 * HALF_LIFE_DAYS * DAY]
    assert np.array_equal(weights(cuts, [1, 2, 0]), [0.25, 0.5, 0.5])
    assert np.array_equal(weights(cuts[::-1], [0, 0, 3]), [0.25] * 3)


def test_cuts_as_people_write_them() -> None:
    assert parse_cut("2011-11-09") == datetime(2011, 11, 9, tzinfo=UTC)
    assert parse_cut("2011-11-09T02:00+02:00") == datetime(2011, 11, 9, tzinfo=UTC)
    for text in ("", "tomorrow", "2011-13-01", "9.11.2011", "infinity"):
        with pytest.raises(BadInput) as caught:
            parse_cut(text)
        assert "2011-11-09" in str(caught.value.hint)
