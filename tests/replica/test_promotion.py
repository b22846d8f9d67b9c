"""A standby that takes over: it answers on, and from then on it writes."""

from tests.replica.conftest import Standby
from tests.serving_shop import AS_OF, CHANGE, ONE, said, scan


def test_promoted_in_the_middle_of_a_session(standby: Standby) -> None:
    """Afterwards the two go their own ways."""
    with standby.connect() as there, standby.primary.connect() as conn:
        standby.follow()
        expected = said(conn)
        assert there.execute(ONE, [7], prepare=True, binary=True).fetchone() == (7, expected[7])
        assert scan(there) == expected
        assert there.execute("select pg_promote()").fetchone() == (True,)
        assert there.execute(ONE, [7], prepare=True, binary=True).fetchone() == (7, expected[7])
        assert scan(there) == expected
        there.execute("select ubp.deploy_model('purchase', 1 + version % 3) from ubp.deployed_versions limit 1")
        there.execute(CHANGE.format(n=4, value=12, every=2))
        assert scan(there) == said(there) != expected
        there.execute("begin")
        there.execute(CHANGE.format(n=5, value=3, every=3))
        assert scan(there) == said(there)
        there.execute("rollback")
        assert scan(there) == said(there)
        there.execute("select * from ubp.refresh_features(%s::timestamptz + interval '3 days')", [AS_OF])
        assert there.execute("select scored from ubp.score_users('purchase')").fetchone() != (0,)
        assert scan(there) == said(there)
    assert standby.primary.one("select pg_is_in_recovery()") is False
