"""Events without a user: they count for items, in the standings and in the plain SQL alike."""

from datetime import UTC, datetime, timedelta

from tests.fix_database import Database

AS_OF = datetime(2025, 3, 10, 12, tzinfo=UTC)
EVENTS = """insert into ubp.events (user_id, event_time, kind, item_id, ingested_at)
select u, timestamptz '2025-03-08 00:00+00' + u * interval '1 hour', 'view', u % 3, '2025-03-08'
from generate_series(1, 9) u"""
ANONYMOUS = """insert into ubp.anonymous_events (event_time, kind, item_id, ingested_at) values
  ('2025-03-09 10:00+00', 'view', 1, '2025-03-09'), ('2025-03-09 10:00+00', 'view', 1, '2025-03-09'),
  ('2025-03-09 10:00+00', 'cart', 1, '2025-03-09'), ('2025-03-10 01:00+00', 'view', 1, '2025-03-09'),
  ('2025-03-09 11:00+00', 'view', 2, '2025-03-11'), ('2025-03-09 11:00+00', 'view', null, '2025-03-09'),
  ('2025-02-01 11:00+00', 'view', 2, '2025-02-01')"""


def popularity(db: Database, query: str) -> dict[int, float | None]:
    return {row["user_id"]: row["value"] for row in db.rows(query)}


def test_item_popularity_counts_events_without_a_user(db: Database) -> None:
    db.execute("select ubp.define_feature_set('s', array['view'])")
    db.execute(
        "select ubp.define_feature('popular', 'item_popularity', array['view'], \"window\" => '7d', feature_set => 's')"
    )
    db.execute(EVENTS)
    features = "select feature, value from ubp.features(%s, %s, 's') where feature = 'popular'"
    with db.connect() as conn:  # one session, which keeps what it counted
        assert conn.execute(features, [1, AS_OF]).fetchall() == [("popular", 3.0)]
        db.execute(ANONYMOUS)
        assert conn.execute(features, [1, AS_OF]).fetchall() == [("popular", 5.0)]
    db.execute("select ubp.refresh_features(%s, 's')", AS_OF)
    stored = db.rows("select user_id, popular as value from ubp.user_features_s order by user_id")
    oracle = db.one("select sql_oracle from ubp.feature_definitions where name = 'popular'")
    assert {row["user_id"]: row["value"] for row in stored} == popularity(db, oracle)
    assert [row["value"] for row in stored] == [5, 3, 3] * 3
    db.execute("select ubp.refresh_features(%s, 's')", AS_OF + timedelta(days=2))
    assert db.one("select popular from ubp.user_features_s where user_id = 2") == 4
