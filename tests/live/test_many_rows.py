"""A user of more rows than the library takes in one go, and no mirror to know it from."""

from tests.fix_database import Database
from tests.live.helpers import loaded

EVENTS = """
insert into ubp.events (user_id, event_time, kind, value, ingested_at)
select 1, t, 'view', n % 91, t
  from generate_series(1, 270000) n cross join lateral (select timestamptz '2024-01-01' + n * interval '7 s') x (t)"""
ROW = "select ubp.feature_vector(1, '2024-12-01')"


def test_so_many_rows_are_not_handed_to_the_library(db: Database) -> None:
    """What it does with them at once nobody could cancel: three seconds of three million."""
    with db.connect() as conn:
        conn.execute("select ubp.define_feature_set('default', array['view'])")
        conn.execute(EVENTS.encode())
        conn.execute("select ubp.drop_mirror()")
        first = conn.execute(ROW).fetchone()
        assert "numpy" in loaded(conn)
        conn.execute("select ubp.build_mirror()")
        assert conn.execute(ROW).fetchone() == first
    # Rows that wait in the log beside a mirror count too.
    with db.connect() as conn:
        conn.execute(EVENTS.replace("select 1", "select 2").encode())
        conn.execute(ROW.replace("(1,", "(2,").encode())
        assert "numpy" in loaded(conn)
