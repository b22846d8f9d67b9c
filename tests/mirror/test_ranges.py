"""What waits in the log with ids far apart: read as one range while that is small, else everything from rows."""

import psycopg
import pytest

from tests.mirror.helpers import Log

EVENT = "insert into ubp.events (event_id, user_id, event_time, kind) values (%s, 3, '2024-05-01', 'view')"


@pytest.mark.parametrize(("apart", "mirrored"), [(2_000, True), (1_000_000, False)])
def test_a_range_around_all_that_is_too_long(log: Log, apart: int, mirrored: bool) -> None:
    """Read as one it would be held at once, whatever lies between: 0.4 GB a million events."""
    log.run(
        "insert into ubp.events (user_id, event_time, kind) select g, '2024-04-01', 'view' from generate_series(1, 9) g"
    )
    log.fold()
    for number in range(1, 12):
        log.run(EVENT, 1_000 + number * apart)
    if mirrored:
        log.check()
    else:
        with pytest.raises(psycopg.Error, match="there is no mirror to read"):
            log.read("mirror")
    assert log.read("either")["sizes"].tolist() == [1, 1, 12, 1, 1, 1, 1, 1, 1]
    log.equal()
