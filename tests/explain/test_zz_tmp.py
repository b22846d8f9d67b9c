from tests.fix_database import Database
def test_doc(shop_copy: Database) -> None:
    with shop_copy.connect() as conn:
        conn.execute("select ubp.study_model('purchase')")
        for u in [r[0] for r in conn.execute('select user_id from ubp.user_scores order by 1 limit 0').fetchall()] or [r[0] for r in conn.execute('select user_id from ubp.feature_rows order by user_id limit 6')]:
            print(conn.execute("select * from ubp.predict_detail('purchase', %s::bigint)", [u]).fetchall())
            for r in conn.execute("select * from ubp.explain_purchase(%s)", [u]): print(r)
        assert 0
