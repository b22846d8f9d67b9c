"""ubp.explain and its kin, in a small database that serves."""

import pytest

from tests.fix_database import Database
from tests.serving_shop import fill

def test_first(db: Database) -> None:
    with db.connect() as conn:
        fill(conn)
        print()
        for r in conn.execute("select * from ubp.explain('purchase', 17, 5)"): print(r)
        for r in conn.execute("select * from ubp.explain_purchase('17')"): print(r)
        for r in conn.execute("select * from ubp.explain_many('purchase', array[17, 10, null], 2)"): print(r)
        for r in conn.execute("select sum(contribution) from ubp.explain_purchase(17)"): print(r)
        conn.add_notice_handler(lambda d: print(d.message_primary))
        for r in conn.execute("select * from ubp.explain_purchase('nobody')"): print(r)
        for r in conn.execute("select * from ubp.explain('purchase', 17, timestamptz '2025-06-20')"): print(r)
        for r in conn.execute("select * from ubp.explain('purchase', 17, as_of => '2025-06-20')"): print(r)
        import time
        for q in ("select * from ubp.explain_purchase(17)","select ubp.predict_purchase(17)"):
            ts=[]
            for _ in range(300):
                t=time.perf_counter(); conn.execute(q).fetchall(); ts.append(time.perf_counter()-t)
            print(q, sorted(ts)[150]*1e6)
        assert 0
