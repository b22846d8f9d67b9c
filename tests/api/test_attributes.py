"""The time of an attribute is the moment that the caller means, however the session writes moments."""

import pytest

from tests.api.helpers import refused
from tests.fix_database import Database


@pytest.mark.parametrize("style", ["ISO", "SQL, DMY", "German", "Postgres"])
@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Asia/Shanghai", "America/New_York"])
def test_a_moment_keeps_its_zone(db: Database, style: str, zone: str) -> None:
    """IST and CST are what these styles write, and they are read as Israel and Chicago."""
    with db.connect() as conn:
        conn.execute(f"set timezone = '{zone}'; set datestyle = '{style}'".encode())
        conn.execute("select ubp.set_user_attribute(17, 'age', 42, timestamptz '2024-01-02 00:00+00')")
        conn.execute("select ubp.set_user_attribute(17, 'plan', 'gold', timestamptz '2024-01-02 00:00+00')")
        conn.execute("select ubp.set_user_attribute('17', 'size', 'm', timestamptz '2024-01-02 00:00+00')")
    assert db.one("select array_agg(distinct event_time = '2024-01-02 00:00+00') from ubp.events") == [True]
    assert db.one("select count(*) from ubp.events") == 3


@pytest.mark.parametrize("moment", ["infinity", "-infinity"])
@pytest.mark.parametrize("value", ["42", "'gold'"])
def test_an_attribute_of_a_user_holds_from_a_finite_time(db: Database, moment: str, value: str) -> None:
    with db.connect() as conn:
        refused(conn, "UB003", f"select ubp.set_user_attribute(17, 'age', {value}, '{moment}')")
