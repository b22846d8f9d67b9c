import time
from tests.fix_database import Database
from tests.study.conftest import add, linear, behind_filling
from tests.api.test_onnx_models import network
from tests.api.helpers import feature_names

def test_t(shop_copy: Database) -> None:
    db=shop_copy
    with db.connect() as conn:
        names=feature_names(db)
        print(len(names), db.one("select trees from ubp.models"), db.one("select count(*) from ubp.feature_rows"))
        vs={"trees":1,"net":add(conn, network(names,2)),"prep":add(conn, behind_filling(names, linear(names)))}
        for name,v in vs.items():
            for _ in range(2):
                t=time.perf_counter(); conn.execute("select ubp.study_model('purchase', %s)", [v]); print(name,"study", time.perf_counter()-t)
            conn.execute("select ubp.deploy_model('purchase', %s)", [v])
            for f in ("explain_surrogate","explain"):
                for u in (1,2,3,4):
                    t=time.perf_counter(); r=conn.execute(f"select * from ubp.{f}('purchase', %s::bigint)", [u]).fetchall(); print(name, f, len(r), time.perf_counter()-t, r[0][-1] if r else None)
    assert 0
